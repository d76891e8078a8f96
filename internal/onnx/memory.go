package onnx

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/lipstream/lipstream/internal/tensor"
)

// tensorInfo describes a tensor of a graph.
type tensorInfo struct {
	dtype tensor.DType
	shape []int
	fixed *tensor.Tensor // a constant or a weight; nil if it is computed
	// constant is whether it does not depend on the graph's inputs. The runtimes
	// compute such a tensor once, when they compile the graph.
	constant bool
}

// bytes returns the size of the tensor. Free dimensions count as 1.
func (t tensorInfo) bytes() int64 {
	n := int64(t.dtype.Size())
	for _, d := range t.shape {
		n *= int64(max(d, 1))
	}
	return n
}

// infer returns the tensors of the graph.
func (g *Graph) infer() map[Value]tensorInfo {
	all := maps.Clone(g.given)
	for _, n := range g.Nodes {
		t := n.infer(all)
		t.constant = !slices.ContainsFunc(n.In, func(v Value) bool { return v != "" && !all[v].constant })
		all[n.Out] = t
	}
	return all
}

// attr returns the integers of an attribute, or nil.
func (n Node) attr(name string) []int64 {
	for _, a := range n.Attrs {
		switch v := a.Value.(type) {
		case int64:
			if a.Name == name {
				return []int64{v}
			}
		case []int64:
			if a.Name == name {
				return v
			}
		}
	}
	return nil
}

// integers returns the values of a constant of int64.
func (t tensorInfo) integers() []int {
	if t.fixed == nil {
		return nil
	}
	v := make([]int, t.fixed.Len())
	for i := range v {
		v[i] = int(int64(binary.LittleEndian.Uint64(t.fixed.Data[8*i:])))
	}
	return v
}

// infer returns the type and the shape of the result of an operator. Those that are not
// listed keep the shape of their first input.
func (n Node) infer(all map[Value]tensorInfo) tensorInfo {
	in := make([]tensorInfo, len(n.In))
	for i, v := range n.In {
		in[i] = all[v]
	}
	x := in[0]
	out := tensorInfo{dtype: x.dtype, shape: slices.Clone(x.shape)}
	switch n.Op {
	case "Cast":
		for d, number := range types {
			if number == n.attr("to")[0] {
				out.dtype = d
			}
		}
	case "DequantizeLinear":
		out.dtype = in[1].dtype
	case "Add", "Sub", "Mul", "Div":
		y := in[1].shape
		for len(out.shape) < len(y) {
			out.shape = slices.Insert(out.shape, 0, 1)
		}
		for i := range y {
			at := len(out.shape) - len(y) + i
			out.shape[at] = max(out.shape[at], y[i])
		}
	case "Reshape":
		out.shape = in[1].integers()
		if free := slices.Index(out.shape, -1); free >= 0 {
			out.shape[free] = 1
			out.shape[free] = tensor.Volume(x.shape) / tensor.Volume(out.shape)
		}
	case "Transpose":
		for i, d := range n.attr("perm") {
			out.shape[i] = x.shape[d]
		}
	case "Conv", "NhwcConv":
		space, channel := 2, 1 // of the dimensions
		if n.Op == "NhwcConv" {
			space, channel = 1, len(out.shape)-1
		}
		out.shape[channel] = in[1].shape[0]
		stride, pads := n.attr("strides"), n.attr("pads")
		for i, k := range n.attr("kernel_shape") {
			size, step := int64(x.shape[space+i]), int64(1)
			if pads != nil {
				size += pads[i] + pads[i+len(pads)/2]
			}
			if stride != nil {
				step = stride[i]
			}
			out.shape[space+i] = int((size-k)/step) + 1
		}
	case "ConvTranspose":
		out.shape[1] = in[1].shape[1]
		stride, pads := n.attr("strides"), n.attr("pads")
		for i, k := range n.attr("kernel_shape") {
			out.shape[2+i] = int(stride[i]*int64(x.shape[2+i]-1) + k - pads[i] - pads[2+i])
		}
	case "Pad":
		pads := in[1].integers()
		for i := range out.shape {
			out.shape[i] += pads[i] + pads[i+len(pads)/2]
		}
	case "BiasSplitGelu":
		out.shape[len(out.shape)-1] /= 2
	case "Gemm":
		out.shape[1] = in[1].shape[1-min(len(n.attr("transB")), 1)]
	case "MatMul":
		out.shape[len(out.shape)-1] = in[1].shape[len(in[1].shape)-1]
	case "MultiHeadAttention":
		out.shape[2] = in[2].shape[2]
	case "Resize":
		for i, scale := range in[2].fixed.F32() {
			out.shape[i] = int(float32(x.shape[i]) * scale)
		}
	case "Concat":
		axis := n.attr("axis")[0]
		for _, y := range in[1:] {
			out.shape[axis] += y.shape[axis]
		}
	case "Slice":
		from, to := in[1].integers(), in[2].integers()
		if from == nil || to == nil { // at most the whole
			break
		}
		for i, axis := range in[3].integers() {
			out.shape[axis] = min(to[i], x.shape[axis]) - from[i]
		}
	case "Expand":
		out.shape = in[1].integers()
	case "ReduceMean", "ReduceL2": // keeps the dimensions
		for _, axis := range in[1].integers() {
			out.shape[axis] = 1
		}
	}
	return out
}

// Kernel is an operator as a runtime runs it, for Working's extra memory.
type Kernel struct {
	Op      string
	Element int64   // bytes of an element of the result
	In      [][]int // shapes of the inputs, nil for those that are left out
	Out     []int
}

// buffer is memory that tensors of the same shape hold one after the other.
type buffer struct {
	size        int64
	first, last int // steps that use it
}

// tensorBuffer is the buffer of a tensor.
type tensorBuffer struct {
	*buffer
	shape []int
}

// Working returns the most memory that the graph takes while it runs for the tensors that
// it computes, in bytes. It plans the memory as ONNX Runtime does (allocation_planner.cc):
// the result of an operator takes the place of an earlier tensor of the same shape that
// nothing reads any more, and such a place is held from its first use to its last. A
// Reshape takes nothing. The graph's inputs, weights and constants do not count, its
// outputs do. extra returns what a kernel takes besides.
func (g *Graph) Working(extra func(Kernel) int64) int64 {
	order, all := g.order(), g.infer()
	outputs := map[Value]bool{}
	source := map[Value]Value{} // of views
	of := func(v Value) Value {
		if s, ok := source[v]; ok {
			return s
		}
		return v
	}
	uses := map[Value]int{}
	for _, s := range order {
		if s.Op == "Reshape" || s.Op == "Identity" {
			source[s.Out] = of(s.In[0])
		}
		for _, v := range s.In {
			uses[of(v)]++
		}
	}
	for _, name := range g.outNames {
		outputs[of(Value(name))] = true
	}
	var buffers []*buffer
	var free []tensorBuffer
	held := map[Value]tensorBuffer{}
	temporary := make([]int64, len(order))
	for i, s := range order {
		out := all[s.Out]
		if _, view := source[s.Out]; !view && !out.constant {
			k := Kernel{Op: s.Op, Element: int64(out.dtype.Size()), Out: out.shape}
			for _, v := range s.In {
				k.In = append(k.In, all[v].shape)
			}
			b := &buffer{first: i, size: out.bytes()}
			same := slices.IndexFunc(free, func(f tensorBuffer) bool { return f.size == b.size && slices.Equal(f.shape, out.shape) })
			if same >= 0 && !outputs[s.Out] {
				b = free[same].buffer
				free = slices.Delete(free, same, same+1)
			} else {
				buffers = append(buffers, b)
			}
			held[s.Out] = tensorBuffer{b, out.shape}
			temporary[i] = extra(k)
		}
		for _, v := range slices.Concat(s.In, []Value{s.Out}) {
			v = of(v)
			if h, ok := held[v]; ok {
				h.last = i
				if outputs[v] {
					h.last = len(order)
				}
			}
		}
		for _, v := range s.In {
			v = of(v)
			if h, ok := held[v]; ok && uses[v] == 1 && !outputs[v] {
				free = slices.Insert(free, 0, h)
				delete(held, v)
			}
			uses[v]--
		}
	}
	var most int64
	for i := range order {
		now := temporary[i]
		for _, b := range buffers {
			if b.first <= i && i <= b.last {
				now += b.size
			}
		}
		most = max(most, now)
	}
	return most
}

// order returns the operators in the order in which ONNX Runtime runs them: depth first
// from the end, of several inputs the operator that was added last first.
func (g *Graph) order() []Node {
	by, used := map[Value]int{}, map[Value]bool{}
	for i, s := range g.Nodes {
		by[s.Out] = i
		for _, v := range s.In {
			used[v] = true
		}
	}
	var order []Node
	seen := make([]bool, len(g.Nodes))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		var before []int
		for _, v := range g.Nodes[i].In {
			if k, ok := by[v]; ok {
				before = append(before, k)
			}
		}
		slices.Sort(before)
		for _, k := range slices.Backward(before) {
			visit(k)
		}
		order = append(order, g.Nodes[i])
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		if !used[g.Nodes[i].Out] {
			visit(i)
		}
	}
	return order
}

// Constants returns the size of the weights and constants that a compiled graph holds, in
// bytes: in the type and layout in which the operators read them.
func (g *Graph) Constants() int64 {
	var n int64
	all, seen := g.infer(), map[Value]bool{}
	for _, s := range g.Nodes {
		if all[s.Out].constant {
			continue
		}
		for _, v := range s.In {
			if t := all[v]; t.constant && !seen[v] {
				seen[v] = true
				n += t.bytes()
			}
		}
	}
	return n
}

// Size returns the size of a tensor that goes into the graph or comes out of it, in bytes.
func (g *Graph) Size(name string) int64 { return g.infer()[Value(name)].bytes() }
