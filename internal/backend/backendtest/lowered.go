package backendtest

import (
	"context"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Lowered is a backend that also runs the operators that ONNX Runtime has only for CUDA.
// It replaces them in each graph by ONNX's own, as their documentation defines them.
type Lowered struct{ backend.Backend }

// Load implements backend.Backend.
func (l Lowered) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if m.Graph != nil {
		lower(m.Graph)
	}
	return l.Backend.Load(ctx, m, o)
}

// OnlyCUDA lists the operators that Lowered replaces.
var OnlyCUDA = []string{"NhwcConv", "GroupNorm", "SkipGroupNorm", "BiasSplitGelu", "BiasAdd"}

func lower(g *onnx.Graph) {
	nodes := g.Nodes
	g.Nodes = nil
	for _, n := range nodes {
		if n.Domain != onnx.Microsoft || !slices.Contains(OnlyCUDA, n.Op) {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		l := lowering{g, n}
		var y onnx.Value
		switch n.Op {
		case "NhwcConv":
			y = l.nhwcConv()
		case "GroupNorm":
			y = l.groupNorm(n.In[0])
		case "SkipGroupNorm": // of x plus (n, c) plus (c)
			y = l.groupNorm(l.op("Add", l.op("Add", n.In[0], n.In[4]), l.op("Unsqueeze", n.In[3], g.Ints(1, 2))))
		case "BiasSplitGelu":
			y = l.biasSplitGelu()
		case "BiasAdd":
			y = l.op("Add", l.op("Add", n.In[0], n.In[1]), n.In[2])
		}
		g.Nodes = append(g.Nodes, onnx.Node{Op: "Identity", In: []onnx.Value{y}, Out: n.Out})
	}
}

// lowering replaces one node.
type lowering struct {
	*onnx.Graph
	n onnx.Node
}

func (l lowering) attr(name string) any {
	i := slices.IndexFunc(l.n.Attrs, func(a onnx.Attr) bool { return a.Name == name })
	return l.n.Attrs[i].Value
}

func (l lowering) op(op string, in ...onnx.Value) onnx.Value { return l.Op(op, in) }

func (l lowering) transpose(v onnx.Value, perm ...int64) onnx.Value {
	return l.Op("Transpose", []onnx.Value{v}, onnx.Ints("perm", perm...))
}

// nhwcConv is a convolution of (n, h, w, in) with weights of (out, kernel, kernel, in).
func (l lowering) nhwcConv() onnx.Value {
	in := slices.Clone(l.n.In)
	in[0], in[1] = l.transpose(in[0], 0, 3, 1, 2), l.transpose(in[1], 0, 3, 1, 2)
	return l.transpose(l.Op("Conv", in, l.n.Attrs...), 0, 2, 3, 1)
}

// groupNorm normalises (n, h, w, c) in float32.
func (l lowering) groupNorm(x onnx.Value) onnx.Value {
	groups := l.attr("groups").(int64)
	scale, shift := l.n.In[1], l.n.In[2]
	y := l.transpose(l.Cast(x, tensor.F32), 0, 3, 1, 2)
	shape := l.op("Shape", y)
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y = l.op("Reshape", y, l.Ints(0, groups, -1))
	y = l.Op("InstanceNormalization", []onnx.Value{y, l.Floats(ones, int(groups)), l.Floats(zeros, int(groups))}, onnx.Float("epsilon", l.attr("epsilon").(float32)))
	y = l.transpose(l.op("Reshape", y, shape), 0, 2, 3, 1)
	y = l.op("Add", l.op("Mul", y, scale), shift)
	if l.attr("activation") == int64(1) {
		y = l.op("Mul", y, l.op("Sigmoid", y))
	}
	return l.op("CastLike", y, l.n.In[0])
}

// biasSplitGelu adds a bias to (n, s, 2·c) and multiplies the first half of the last
// dimension with the GELU of the second.
func (l lowering) biasSplitGelu() onnx.Value {
	x := l.op("Add", l.n.In[0], l.n.In[1])
	size := l.op("Shape", l.n.In[1])
	middle := l.op("Div", size, l.Ints(2))
	left := l.op("Slice", x, l.Ints(0), middle, l.Ints(-1))
	right := l.op("Slice", x, middle, size, l.Ints(-1))
	return l.op("Mul", left, l.op("Gelu", right))
}
