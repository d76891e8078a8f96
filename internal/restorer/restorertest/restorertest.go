// Package restorertest makes ONNX files for tests of the restoration: networks of GFPGAN's
// layout that compute something known, and one of its structure with random weights.
package restorertest

import (
	"math/rand/v2"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

const side = 512

// model is a network in the making. Its methods add a part and return its result.
type model struct {
	*onnx.Graph
	random *rand.Rand
}

// Shift returns a network that adds a colour to its image: red, green and blue, in the range
// of 2 from black to white. Of batch, height and width, a -1 is left open in the file.
func Shift(colour [3]float32, batch, size int) []byte {
	m := model{Graph: onnx.New("shift")}
	x := m.Input("input", tensor.F32, batch, 3, size, size)
	weights := make([]float32, 3*3*9)
	for c := range 3 {
		weights[(c*3+c)*9+4] = 1 // a convolution that changes nothing
	}
	y := m.Op("Conv", []onnx.Value{x, m.Floats(weights, 3, 3, 3, 3)}, onnx.Ints("kernel_shape", 3, 3), onnx.Ints("pads", 1, 1, 1, 1))
	y = m.Op("Add", []onnx.Value{y, m.Floats(colour[:], 1, 3, 1, 1)})
	m.Output("output", y, tensor.F32, batch, 3, size, size)
	return m.Encode(nil)
}

// WithWeight returns a network that also has CodeFormer's second input, w.
func WithWeight() []byte {
	g := onnx.New("with a weight")
	x, w := g.Input("x", tensor.F32, 1, 3, side, side), g.Input("w", tensor.F32, 1)
	g.Output("y", g.Op("Mul", []onnx.Value{x, w}), tensor.F32, 1, 3, side, side)
	return g.Encode(nil)
}

// Half returns a network whose image has half the size of what it takes. If open is set, the
// file does not say so.
func Half(open bool) []byte {
	g := onnx.New("half")
	x := g.Input("input", tensor.F32, 1, 3, side, side)
	y := g.Op("AveragePool", []onnx.Value{x}, onnx.Ints("kernel_shape", 2, 2), onnx.Ints("strides", 2, 2))
	n := side / 2
	if open {
		n = -1
	}
	g.Output("output", y, tensor.F32, 1, 3, n, n)
	return g.Encode(nil)
}

// NaN returns a network that divides 0 by 0.
func NaN() []byte {
	g := onnx.New("not a number")
	x := g.Input("input", tensor.F32, 1, 3, side, side)
	zero := g.Op("Sub", []onnx.Value{x, x})
	g.Output("output", g.Op("Div", []onnx.Value{zero, zero}), tensor.F32, 1, 3, side, side)
	return g.Encode(nil)
}

// External returns a network whose weights are in a file.
func External(file string) []byte {
	g := onnx.New("external")
	x := g.Input("input", tensor.F32, 1, 3, side, side)
	w := g.Weight(onnx.Weight{Name: "w", Tensor: tensor.FromF32([]float32{0, 0, 0}, 1, 3, 1, 1)})
	g.Output("output", g.Op("Add", []onnx.Value{x, w}), tensor.F32, 1, 3, side, side)
	return g.Encode(func(onnx.Weight) (string, uint64) { return file, 0 })
}

// Network returns a network of GFPGAN's structure with random weights: a U-Net, and a decoder
// of StyleGAN2's modulated convolutions, whose styles come from the depth of the U-Net and
// whose features the U-Net scales and shifts. It has so many channels and goes down to so
// many pixels.
func Network(channels, depth int) []byte {
	m := model{onnx.New("restoration"), rand.New(rand.NewPCG(1, 2))}
	x := m.Input("input", tensor.F32, 1, 3, side, side)
	h := m.act(m.conv(x, 3, channels, 1))
	var skips []onnx.Value // the deepest last
	for n := side; n > depth; n /= 2 {
		skips = append(skips, h)
		h = m.act(m.conv(m.resize(h, 0.5), channels, channels, 3))
	}
	style := m.Op("Flatten", []onnx.Value{m.Op("GlobalAveragePool", []onnx.Value{h})})
	style = m.act(m.linear(style, channels))
	h = m.Floats(m.weights(channels*depth*depth, 1), 1, channels, depth, depth) // StyleGAN2 begins with a constant
	h = m.modulated(h, style, channels, channels)
	image := m.modulated(h, style, channels, 3)
	for i := len(skips) - 1; i >= 0; i-- {
		h = m.act(m.modulated(m.resize(h, 2), style, channels, channels))
		scale, shift := m.conv(skips[i], channels, channels, 3), m.conv(skips[i], channels, channels, 3)
		h = m.Op("Add", []onnx.Value{m.Op("Mul", []onnx.Value{h, scale}), shift})
		image = m.Op("Add", []onnx.Value{m.resize(image, 2), m.modulated(h, style, channels, 3)})
	}
	m.Output("output", m.Op("Tanh", []onnx.Value{image}), tensor.F32, 1, 3, side, side)
	return m.Encode(nil)
}

// weights returns n random numbers of a deviation.
func (m model) weights(n int, deviation float32) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(m.random.NormFloat64()) * deviation
	}
	return w
}

func (m model) act(x onnx.Value) onnx.Value {
	return m.Op("LeakyRelu", []onnx.Value{x}, onnx.Float("alpha", 0.2))
}

func (m model) conv(x onnx.Value, in, out, k int) onnx.Value {
	w := m.Floats(m.weights(out*in*k*k, 1/float32(k*in)), out, in, k, k)
	pad, size := int64(k/2), int64(k)
	return m.Op("Conv", []onnx.Value{x, w}, onnx.Ints("kernel_shape", size, size), onnx.Ints("pads", pad, pad, pad, pad))
}

func (m model) linear(x onnx.Value, n int) onnx.Value {
	return m.Op("MatMul", []onnx.Value{x, m.Floats(m.weights(n*n, 1/float32(n)), n, n)})
}

func (m model) resize(x onnx.Value, by float32) onnx.Value {
	return m.Op("Resize", []onnx.Value{x, "", m.Floats([]float32{1, 1, by, by}, 4)}, onnx.String("mode", "linear"))
}

// modulated adds StyleGAN2's convolution, whose weights are scaled by the style and then
// normalised.
func (m model) modulated(x, style onnx.Value, in, out int) onnx.Value {
	s := m.Op("Reshape", []onnx.Value{m.linear(style, in), m.Ints(1, int64(in), 1, 1)})
	w := m.Op("Mul", []onnx.Value{m.Floats(m.weights(out*in*9, 1), out, in, 3, 3), s})
	norm := m.Op("ReduceL2", []onnx.Value{w, m.Ints(1, 2, 3)}, onnx.Int("keepdims", 1))
	w = m.Op("Div", []onnx.Value{w, m.Op("Add", []onnx.Value{norm, m.Scalar(1e-4)})})
	return m.Op("Conv", []onnx.Value{x, w}, onnx.Ints("kernel_shape", 3, 3), onnx.Ints("pads", 1, 1, 1, 1))
}
