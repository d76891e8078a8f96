package network

import (
	"fmt"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
)

// Operator is a layer of the networks as a graph of its own.
type Operator struct {
	Name   string
	Graph  *onnx.Graph
	Inputs map[string][]int // shapes, all of float32
}

// OperatorOutput is the name of the one output of every Operator.
const OperatorOutput = "y"

// Operators builds the kinds of layers that the networks consist of, for checking a
// device. Where kernels are chosen by width, the widths are those of the published
// networks. weights must hold OperatorWants.
func Operators(weights *checkpoint.File, t Target) ([]Operator, error) {
	o := operators{builder: newBuilder("", weights, t)}
	o.build()
	return o.list, o.err
}

// OperatorWants lists the tensors that Operators needs.
func OperatorWants() []checkpoint.Want {
	o := operators{builder: newBuilder("", nil, Target{})}
	o.build()
	return o.wanted.list
}

// operators are operators under construction.
type operators struct {
	*builder
	list []Operator
}

// begin starts the next graph.
func (o *operators) begin(name string) {
	o.builder = o.fork(name)
	o.list = append(o.list, Operator{Name: name, Graph: o.Graph, Inputs: map[string][]int{}})
}

func (o *operators) input(name string, shape ...int) onnx.Value {
	o.list[len(o.list)-1].Inputs[name] = shape
	return o.builder.input(name, shape...)
}

func (o *operators) maps(m stack) onnx.Value {
	o.list[len(o.list)-1].Inputs["x"] = []int{m.n, m.c, m.h, m.w}
	return o.inputMaps("x", m)
}

func (o *operators) output(v onnx.Value, shape ...int) {
	o.builder.output(OperatorOutput, v, shape...)
}

func (o *operators) build() {
	const (
		n, c, side = 2, 64, 16 // of the feature maps
		tokens     = 64
		width      = 320 // of the tokens: the published UNet's first level
		eps        = epsResnet
	)
	x := stack{n, c, side, side}

	o.begin("convolution 3x3")
	o.outputMaps(OperatorOutput, o.conv3(o.maps(x), "operators.conv3", c, c), x)

	o.begin("convolution 3x3, stride 2")
	o.outputMaps(OperatorOutput, o.conv(o.maps(x), "operators.down", c, c, 3, 2, 1, 1, 1, 1), stack{n, c, side / 2, side / 2})

	o.begin("convolution 1x1")
	o.outputMaps(OperatorOutput, o.conv(o.maps(x), "operators.conv1", c, 2*c, 1, 1, 0, 0, 0, 0), stack{n, 2 * c, side, side})

	o.begin("norm over a window")
	m := stack{2 * n, c, side / 2, side / 2} // n windows of 2 frames
	o.outputMaps(OperatorOutput, o.groupNormSiLU(o.maps(m), "operators.norm", m, 2, eps), m)

	for _, a := range []struct {
		name                    string
		batch, nq, nk, heads, d int
	}{
		{"attention, heads of", n, tokens, tokens, 8, 40},
		{"attention, heads of", n, tokens, tokens, 8, 80},
		{"attention, heads of", n, tokens / 4, tokens / 4, 8, 160},
		{"attention, one head of", 1, tokens, tokens, 1, 512},
		{"attention to audio, heads of", n, tokens, 50, 8, 40},
		{"attention over frames, heads of", tokens, 16, 16, 8, 40},
	} {
		o.begin(fmt.Sprintf("%s %d", a.name, a.d))
		rows := func(name string, n int) onnx.Value { return o.input(name, a.batch*n, a.heads*a.d) }
		y := o.attention(rows("q", a.nq), rows("k", a.nk), rows("v", a.nk), a.batch, a.nq, a.nk, a.heads, a.heads*a.d)
		o.output(y, a.batch*a.nq, a.heads*a.d)
	}

	o.begin("GEGLU")
	y := o.geglu(o.input("x", tokens, width), "operators.ff.net.0.proj", tokens, width, 4*width)
	o.output(o.linear(y, "operators.ff.net.2", 4*width, width), tokens, width)

	o.begin("nearest resize")
	o.outputMaps(OperatorOutput, o.double(o.maps(x)), stack{n, c, 2 * side, 2 * side})

	o.begin("layer norm")
	o.output(o.layerNorm(o.input("x", tokens, width), "operators.layer_norm", width), tokens, width)
}
