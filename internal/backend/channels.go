package backend

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The sizes of the network that CheckChannelsLast runs. The kernels take only some widths.
const (
	checkIn     = 13 // channels of the input, as those of the UNet
	checkOut    = 3  // channels of an output, as those of the VAE
	checkGroups = 32 // of the norm, of two channels
	checkRows   = 4
	checkWide   = 2560 // columns of the GEGLU
	checkNarrow = 320  // columns of the sum
	checkEps    = 1e-5
)

var channelsLast = checkSize{images: 2, channels: 2 * checkGroups, side: 4, heads: 2}

// CheckChannelsLast is Check for the operators that ONNX Runtime has only for CUDA:
// convolutions, group norms with SiLU and an attention of images with the channels last, a
// GEGLU and a sum, in f32 and in f16.
func CheckChannelsLast(ctx context.Context, b Backend, device string) error {
	s := channelsLast
	x, wide := checkValues(s.images*checkIn*s.tokens(), 0.37), checkValues(checkRows*checkWide, 0.11)
	convolved := addBias(s.convolve(x, checkIn, s.channels), s.channels)
	narrowed := addBias(s.convolve(s.channelsFirst(convolved), s.channels, checkOut), checkOut)
	normed := s.normalize(convolved)
	biased := addBias(wide, checkWide)
	gated := make([]float32, 0, len(wide)/2)
	for row := range checkRows {
		for j := range checkWide / 2 {
			v, gate := biased[row*checkWide+j], float64(biased[row*checkWide+checkWide/2+j])
			gated = append(gated, v*float32(gate/2*(1+math.Erf(gate/math.Sqrt2))))
		}
	}
	sum := addBias(wide, checkNarrow)
	for i, v := range wide {
		sum[i] += v
	}
	for _, p := range []Precision{F32, F16} {
		err := checkOn(ctx, b, Options{Device: device, Precision: p}, channelsLastGraph(p.DType()), map[string]*tensor.Tensor{
			"x": tensor.FromF32(x, s.images, checkIn, s.side, s.side), "wide": tensor.FromF32(wide, 1, checkRows, checkWide),
		}, []checkLayer{
			{"convolution", convolved}, {"narrow convolution", narrowed},
			{"group norm", normed}, {"norm of a sum", s.normalize(addBias(addBias(convolved, s.channels), s.channels))},
			{"attention", s.attend(normed, s.scale())}, {"GEGLU", gated}, {"sum", sum},
		})
		if err != nil {
			return fmt.Errorf("in %s: %w", p, err)
		}
	}
	return nil
}

// scale returns the factor of the scores of an attention.
func (s checkSize) scale() float64 { return math.Sqrt(float64(s.heads) / float64(s.channels)) }

// channelsLastGraph returns the network in one element type. Its inputs and outputs are
// float32.
func channelsLastGraph(t tensor.DType) *onnx.Graph {
	s := channelsLast
	c, n := int64(s.channels), int64(s.tokens())
	g := onnx.New("channels last check")
	cast := func(v onnx.Value) onnx.Value { return g.Cast(v, t) }
	reshape := func(v onnx.Value, shape ...int64) onnx.Value {
		return g.Op("Reshape", []onnx.Value{v, g.Ints(shape...)})
	}
	transpose := func(v onnx.Value) onnx.Value {
		return g.Op("Transpose", []onnx.Value{v}, onnx.Ints("perm", 0, 2, 3, 1))
	}
	bias := func(width int) onnx.Value { return cast(g.Floats(checkBias(width), width)) }
	output := func(name string, v onnx.Value, shape ...int) {
		g.Output(name, g.Cast(v, tensor.F32), tensor.F32, shape...)
	}
	run := func(op string, in []onnx.Value, attrs ...onnx.Attr) onnx.Value {
		return g.OpIn(onnx.Microsoft, op, in, attrs...)
	}

	convolve := func(x onnx.Value, in, out int) onnx.Value {
		kernel := transpose(cast(g.Floats(checkKernel(in, out), out, in, 3, 3)))
		return run("NhwcConv", []onnx.Value{x, kernel, bias(out)},
			onnx.Ints("kernel_shape", 3, 3), onnx.Ints("strides", 1, 1), onnx.Ints("pads", 1, 1, 1, 1))
	}

	y := convolve(transpose(cast(g.Input("x", tensor.F32, s.images, checkIn, s.side, s.side))), checkIn, s.channels)
	output("convolution", y, s.images, s.side, s.side, s.channels)
	output("narrow convolution", convolve(y, s.channels, checkOut), s.images, s.side, s.side, checkOut)
	high := reshape(y, 1, int64(s.images*s.side), int64(s.side), c)
	in := []onnx.Value{high, g.Floats(checkScale(s.channels), s.channels), g.Floats(checkBias(s.channels), s.channels)}
	attrs := []onnx.Attr{onnx.Int("groups", checkGroups), onnx.Float("epsilon", checkEps), onnx.Int("activation", 1), onnx.Int("channels_last", 1)}
	output("norm of a sum", run("SkipGroupNorm", append(slices.Clone(in), reshape(bias(s.channels), 1, c), bias(s.channels)), attrs...), 1, s.images*s.side, s.side, s.channels)
	y = run("GroupNorm", in, attrs...)
	output("group norm", y, 1, s.images*s.side, s.side, s.channels)
	y = reshape(y, int64(s.images), n, c)
	y = run("MultiHeadAttention", []onnx.Value{y, y, y}, onnx.Int("num_heads", int64(s.heads)), onnx.Float("scale", float32(s.scale())))
	output("attention", y, s.images, s.tokens(), s.channels)

	wide := cast(g.Input("wide", tensor.F32, 1, checkRows, checkWide))
	output("GEGLU", run("BiasSplitGelu", []onnx.Value{wide, bias(checkWide)}), 1, checkRows, checkWide/2)
	rows := checkRows * checkWide / checkNarrow
	narrow := reshape(wide, 1, int64(rows), checkNarrow)
	output("sum", run("BiasAdd", []onnx.Value{narrow, bias(checkNarrow), narrow}), 1, rows, checkNarrow)
	return g
}

// channelsFirst turns (images, tokens, channels) into (images, channels, tokens).
func (s checkSize) channelsFirst(x []float32) []float32 {
	y, n, c := make([]float32, len(x)), s.tokens(), s.channels
	for i, v := range x {
		image, at, channel := i/c/n, i/c%n, i%c
		y[(image*c+channel)*n+at] = v
	}
	return y
}

// checkBias and checkScale return numbers from -1 to 1, one for each column.
func checkBias(width int) []float32  { return checkValues(width, 0.29) }
func checkScale(width int) []float32 { return checkValues(width, 0.43) }

// addBias returns rows of the given width plus their bias.
func addBias(x []float32, width int) []float32 {
	bias, y := checkBias(width), make([]float32, len(x))
	for i, v := range x {
		y[i] = v + bias[i%width]
	}
	return y
}

// normalize computes the group norm of all images together, with SiLU.
func (s checkSize) normalize(x []float32) []float32 {
	scale, bias, y := checkScale(s.channels), checkBias(s.channels), make([]float32, len(x))
	size := s.channels / checkGroups
	for group := range checkGroups {
		var sum, squares float64
		inGroup := func(i int) bool { return i%s.channels/size == group }
		for i, v := range x {
			if inGroup(i) {
				sum, squares = sum+float64(v), squares+float64(v)*float64(v)
			}
		}
		n := float64(len(x) / checkGroups)
		mean := sum / n
		deviation := math.Sqrt(squares/n - mean*mean + checkEps)
		for i, v := range x {
			if inGroup(i) {
				z := (float64(v)-mean)/deviation*float64(scale[i%s.channels]) + float64(bias[i%s.channels])
				y[i] = float32(z / (1 + math.Exp(-z)))
			}
		}
	}
	return y
}
