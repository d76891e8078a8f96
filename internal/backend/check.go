package backend

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// checkSize holds the sizes of a network that checks a device.
type checkSize struct{ images, channels, side, heads int }

func (s checkSize) tokens() int { return s.side * s.side } // of an image

// checked is the size of the network that Check runs.
var checked = checkSize{images: 2, channels: 8, side: 8, heads: 1}

// checkTolerance is the largest difference that Check accepts, of values near 1. It
// lets TensorFloat-32 and half precision pass, because it looks for a device that does
// not work; lipstream check measures the precision.
const checkTolerance = 0.02

// Check computes a convolution, a matrix product and an attention on the named device of
// b and compares the results with its own. It loads the libraries that only a
// computation needs, such as cuDNN, so a device that passes works.
func Check(ctx context.Context, b Backend, device string) error {
	x := checkValues(checked.images*checked.channels*checked.tokens(), 0.37)
	convolved := checked.convolve(x, checked.channels, checked.channels)
	projected := checkProject(convolved)
	return checkOn(ctx, b, Options{Device: device}, checkGraph(), map[string]*tensor.Tensor{"x": tensor.FromF32(x, checked.images, checked.channels, checked.side, checked.side)},
		[]checkLayer{{"convolution", convolved}, {"matrix product", projected}, {"attention", checked.attend(projected, 1)}})
}

// checkLayer is an output of a network and its expected values.
type checkLayer struct {
	output string
	want   []float32
}

// checkOn runs a network on a device of b and compares its outputs.
func checkOn(ctx context.Context, b Backend, o Options, g *onnx.Graph, in map[string]*tensor.Tensor, layers []checkLayer) error {
	o.Threads = 1
	s, err := b.Load(ctx, Model{Name: g.Name(), Graph: g}, o)
	if err != nil {
		return err
	}
	defer s.Close()
	out, err := s.Run(ctx, in)
	if err != nil {
		return err
	}
	for _, layer := range layers {
		got := out[layer.output]
		if got == nil || got.DType != tensor.F32 || got.Len() != len(layer.want) {
			return fmt.Errorf("the %s returns %v", layer.output, got)
		}
		for i, v := range got.F32() {
			if d := math.Abs(float64(v - layer.want[i])); !(d <= checkTolerance) { // also for NaN
				return fmt.Errorf("the %s computes %v instead of %v", layer.output, v, layer.want[i])
			}
		}
	}
	return nil
}

// HasHalf reports whether the named device of b, which has passed Check, computes in
// float16.
func HasHalf(ctx context.Context, b Backend, device string) bool {
	g := onnx.New("half precision check")
	x := g.Cast(g.Input("x", tensor.F32, 1), tensor.F16)
	g.Output("y", g.Cast(g.Op("Add", []onnx.Value{x, x}), tensor.F32), tensor.F32, 1)
	s, err := b.Load(ctx, Model{Name: g.Name(), Graph: g}, Options{Device: device, Precision: F16, Threads: 1})
	if err != nil {
		return false
	}
	defer s.Close()
	out, err := s.Run(ctx, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{1.5}, 1)})
	return err == nil && out["y"] != nil && slices.Equal(out["y"].F32(), []float32{3})
}

// checkValues returns n numbers from -1 to 1.
func checkValues(n int, step float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(step * float64(i+1)))
	}
	return v
}

// checkKernel returns the weights of a 3×3 convolution that keeps the size of its input.
func checkKernel(in, out int) []float32 {
	return checkScaled(checkValues(out*in*9, 0.71), float32(math.Sqrt(2/9./float64(in))))
}

func checkMatrix() []float32 {
	return checkScaled(checkValues(checked.channels*checked.channels, 0.53), 1.0/3)
}

func checkScaled(v []float32, by float32) []float32 {
	for i := range v {
		v[i] *= by
	}
	return v
}

// checkGraph returns the network: a 3×3 convolution, its pixels as tokens times a matrix,
// and the attention of these tokens to themselves.
func checkGraph() *onnx.Graph {
	images, c, side, n := checked.images, checked.channels, checked.side, checked.tokens()
	g := onnx.New("device check")
	x := g.Input("x", tensor.F32, images, c, side, side)
	y := g.Op("Conv", []onnx.Value{x, g.Floats(checkKernel(c, c), c, c, 3, 3)},
		onnx.Ints("kernel_shape", 3, 3), onnx.Ints("pads", 1, 1, 1, 1))
	y = g.Op("Transpose", []onnx.Value{g.Op("Reshape", []onnx.Value{y, g.Ints(int64(images), int64(c), int64(n))})}, onnx.Ints("perm", 0, 2, 1))
	g.Output("convolution", y, tensor.F32, images, n, c)
	y = g.Op("MatMul", []onnx.Value{y, g.Floats(checkMatrix(), c, c)})
	g.Output("matrix product", y, tensor.F32, images, n, c)
	scores := g.Op("MatMul", []onnx.Value{y, g.Op("Transpose", []onnx.Value{y}, onnx.Ints("perm", 0, 2, 1))})
	y = g.Op("MatMul", []onnx.Value{g.Op("Softmax", []onnx.Value{scores}, onnx.Int("axis", -1)), y})
	g.Output("attention", y, tensor.F32, images, n, c)
	return g
}

// convolve computes a convolution of (images, in, side, side), as (images, tokens, out).
func (s checkSize) convolve(x []float32, in, out int) []float32 {
	kernel, n := checkKernel(in, out), s.tokens()
	y := make([]float32, s.images*n*out)
	for i := range y {
		image, at, o := i/out/n, i/out%n, i%out
		var sum float64
		for c := range in {
			for tap := range 9 {
				row, column := at/s.side+tap/3-1, at%s.side+tap%3-1
				if row >= 0 && row < s.side && column >= 0 && column < s.side {
					sum += float64(x[(image*in+c)*n+row*s.side+column]) * float64(kernel[(o*in+c)*9+tap])
				}
			}
		}
		y[i] = float32(sum)
	}
	return y
}

// checkProject computes the matrix product.
func checkProject(x []float32) []float32 {
	c := checked.channels
	m := checkMatrix()
	y := make([]float32, len(x))
	for at := 0; at < len(x); at += c {
		for o := range c {
			for in := range c {
				y[at+o] += x[at+in] * m[in*c+o]
			}
		}
	}
	return y
}

// attend computes the attention of (images, tokens, channels) to themselves.
func (s checkSize) attend(x []float32, scale float64) []float32 {
	n, c, d := s.tokens(), s.channels, s.channels/s.heads
	y := make([]float32, len(x))
	for i := range s.images * s.heads {
		from := i/s.heads*n*c + i%s.heads*d
		token := func(v []float32, at int) []float32 { return v[from+at*c:][:d] } // its numbers for the head
		for q := range n {
			var total float64
			sums := make([]float64, d)
			for k := range n {
				var score float64
				for j := range d {
					score += float64(token(x, q)[j]) * float64(token(x, k)[j])
				}
				weight := math.Exp(scale * score)
				total += weight
				for j := range d {
					sums[j] += weight * float64(token(x, k)[j])
				}
			}
			for j := range d {
				token(y, q)[j] = float32(sums[j] / total)
			}
		}
	}
	return y
}
