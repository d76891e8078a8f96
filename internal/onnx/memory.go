package onnx

import (
	"encoding/binary"
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

// step is an operator of a graph.
type step struct {
	op   string
	in   []Value
	out  Value
	attr map[string][]int64
}

// record notes an operator and the shape of its result, for Working.
func (g *Graph) record(op string, in []Value, out Value, attrs []Attr) {
	s := step{op: op, in: in, out: out, attr: map[string][]int64{}}
	for _, a := range attrs {
		if a.ints != nil {
			s.attr[a.name] = a.ints
		}
	}
	g.steps = append(g.steps, s)
	t := g.infer(s)
	t.constant = !slices.ContainsFunc(in, func(v Value) bool { return v != "" && !g.tensors[v].constant })
	g.tensors[out] = t
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
func (g *Graph) infer(s step) tensorInfo {
	in := make([]tensorInfo, len(s.in))
	for i, v := range s.in {
		in[i] = g.tensors[v]
	}
	x := in[0]
	out := tensorInfo{dtype: x.dtype, shape: slices.Clone(x.shape)}
	switch s.op {
	case "Cast":
		for d, n := range types {
			if n == s.attr["to"][0] {
				out.dtype = d
			}
		}
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
	case "Transpose":
		for i, d := range s.attr["perm"] {
			out.shape[i] = x.shape[d]
		}
	case "Conv":
		stride, pads, kernel := s.attr["strides"], s.attr["pads"], s.attr["kernel_shape"]
		out.shape[1] = in[1].shape[0]
		for i, k := range kernel {
			step := int64(1)
			if stride != nil {
				step = stride[i]
			}
			size := int64(x.shape[2+i])
			if pads != nil {
				size += pads[i] + pads[i+len(kernel)]
			}
			out.shape[2+i] = int((size-k)/step) + 1
		}
	case "Gemm":
		out.shape[1] = in[1].shape[1-min(len(s.attr["transB"]), 1)]
	case "MatMul":
		out.shape[len(out.shape)-1] = in[1].shape[len(in[1].shape)-1]
	case "MultiHeadAttention":
		out.shape[2] = in[2].shape[2]
	case "Resize":
		for i, scale := range in[2].fixed.F32() {
			out.shape[i] = int(float32(x.shape[i]) * scale)
		}
	case "Concat":
		axis := s.attr["axis"][0]
		for _, y := range in[1:] {
			out.shape[axis] += y.shape[axis]
		}
	case "Slice":
		from, to, axis := in[1].integers()[0], in[2].integers()[0], in[3].integers()[0]
		out.shape[axis] = to - from
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
// Reshape takes nothing. The graph's inputs, weights and constants do not count, its outputs do. extra returns what a kernel
// takes besides.
func (g *Graph) Working(extra func(Kernel) int64) int64 {
	order := g.order()
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
		if s.op == "Reshape" || s.op == "Identity" {
			source[s.out] = of(s.in[0])
		}
		for _, v := range s.in {
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
		out := g.tensors[s.out]
		if _, view := source[s.out]; !view && !out.constant {
			k := Kernel{Op: s.op, Element: int64(out.dtype.Size()), Out: out.shape}
			for _, v := range s.in {
				k.In = append(k.In, g.tensors[v].shape)
			}
			b := &buffer{first: i, size: out.bytes()}
			same := slices.IndexFunc(free, func(f tensorBuffer) bool { return f.size == b.size && slices.Equal(f.shape, out.shape) })
			if same >= 0 && !outputs[s.out] {
				b = free[same].buffer
				free = slices.Delete(free, same, same+1)
			} else {
				buffers = append(buffers, b)
			}
			held[s.out] = tensorBuffer{b, out.shape}
			temporary[i] = extra(k)
		}
		for _, v := range append(s.in, s.out) {
			v = of(v)
			if h, ok := held[v]; ok {
				h.last = i
				if outputs[v] {
					h.last = len(order)
				}
			}
		}
		for _, v := range s.in {
			v = of(v)
			if h, ok := held[v]; ok && uses[v] == 1 && !outputs[v] {
				free = append(free, h)
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
func (g *Graph) order() []step {
	by, used := map[Value]int{}, map[Value]bool{}
	for i, s := range g.steps {
		by[s.out] = i
		for _, v := range s.in {
			used[v] = true
		}
	}
	var order []step
	seen := make([]bool, len(g.steps))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		var before []int
		for _, v := range g.steps[i].in {
			if k, ok := by[v]; ok {
				before = append(before, k)
			}
		}
		slices.Sort(before)
		for _, k := range slices.Backward(before) {
			visit(k)
		}
		order = append(order, g.steps[i])
	}
	for i := len(g.steps) - 1; i >= 0; i-- {
		if !used[g.steps[i].out] {
			visit(i)
		}
	}
	return order
}

// Constants returns the size of the weights and constants that a compiled graph holds, in
// bytes: in the type and layout in which the operators read them.
func (g *Graph) Constants() int64 {
	var n int64
	seen := map[Value]bool{}
	for _, s := range g.steps {
		if g.tensors[s.out].constant {
			continue
		}
		for _, v := range s.in {
			if t := g.tensors[v]; t.constant && !seen[v] {
				seen[v] = true
				n += t.bytes()
			}
		}
	}
	return n
}
