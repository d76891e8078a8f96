package backend

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The sizes of the network that Check runs: images, channels and the side of an image.
const (
	checkImages   = 2
	checkChannels = 8
	checkSide     = 8
	checkTokens   = checkSide * checkSide
)

// checkTolerance is the largest difference that Check accepts, of values near 1. It
// lets TensorFloat-32 and half precision pass, because it looks for a device that does
// not work; lipstream check measures the precision.
const checkTolerance = 0.02

// Check computes a convolution, a matrix product and an attention on the named device of
// b and compares the results with its own. It loads the libraries that only a
// computation needs, such as cuDNN, so a device that passes works.
func Check(ctx context.Context, b Backend, device string) error {
	s, err := b.Load(ctx, Model{Name: "device check", Graph: checkGraph()}, Options{Device: device, Threads: 1})
	if err != nil {
		return err
	}
	defer s.Close()
	x := checkValues(checkImages*checkChannels*checkTokens, 0.37)
	out, err := s.Run(ctx, map[string]*tensor.Tensor{"x": tensor.FromF32(x, checkImages, checkChannels, checkSide, checkSide)})
	if err != nil {
		return err
	}
	convolved := checkConv(x)
	projected := checkProject(convolved)
	for _, layer := range []struct {
		name, output string
		want         []float32
	}{
		{"convolution", "conv", convolved}, {"matrix product", "product", projected}, {"attention", "attention", checkAttend(projected)},
	} {
		got := out[layer.output]
		if got == nil || got.DType != tensor.F32 || got.Len() != len(layer.want) {
			return fmt.Errorf("the %s returns %v", layer.name, got)
		}
		for i, v := range got.F32() {
			if d := math.Abs(float64(v - layer.want[i])); !(d <= checkTolerance) { // also for NaN
				return fmt.Errorf("the %s computes %v instead of %v", layer.name, v, layer.want[i])
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

func checkKernel() []float32 {
	return checkScaled(checkValues(checkChannels*checkChannels*9, 0.71), 1.0/6)
}
func checkMatrix() []float32 {
	return checkScaled(checkValues(checkChannels*checkChannels, 0.53), 1.0/3)
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
	const c, n = checkChannels, checkTokens
	g := onnx.New("device check")
	x := g.Input("x", tensor.F32, checkImages, c, checkSide, checkSide)
	y := g.Op("Conv", []onnx.Value{x, g.Floats(checkKernel(), c, c, 3, 3)},
		onnx.Ints("kernel_shape", 3, 3), onnx.Ints("pads", 1, 1, 1, 1))
	y = g.Op("Transpose", []onnx.Value{g.Op("Reshape", []onnx.Value{y, g.Ints(checkImages, c, n)})}, onnx.Ints("perm", 0, 2, 1))
	g.Output("conv", y, tensor.F32, checkImages, n, c)
	y = g.Op("MatMul", []onnx.Value{y, g.Floats(checkMatrix(), c, c)})
	g.Output("product", y, tensor.F32, checkImages, n, c)
	scores := g.Op("MatMul", []onnx.Value{y, g.Op("Transpose", []onnx.Value{y}, onnx.Ints("perm", 0, 2, 1))})
	y = g.Op("MatMul", []onnx.Value{g.Op("Softmax", []onnx.Value{scores}, onnx.Int("axis", -1)), y})
	g.Output("attention", y, tensor.F32, checkImages, n, c)
	return g
}

// checkConv computes the convolution, as tokens.
func checkConv(x []float32) []float32 {
	const c, side, n = checkChannels, checkSide, checkTokens
	k := checkKernel()
	y := make([]float32, len(x))
	for i := range checkImages {
		for at := range n {
			for o := range c {
				var sum float64
				for in := range c {
					for tap := range 9 {
						row, column := at/side+tap/3-1, at%side+tap%3-1
						if row >= 0 && row < side && column >= 0 && column < side {
							sum += float64(x[(i*c+in)*n+row*side+column]) * float64(k[(o*c+in)*9+tap])
						}
					}
				}
				y[(i*n+at)*c+o] = float32(sum)
			}
		}
	}
	return y
}

// checkProject computes the matrix product.
func checkProject(x []float32) []float32 {
	const c = checkChannels
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

// checkAttend computes the attention.
func checkAttend(x []float32) []float32 {
	const c, n = checkChannels, checkTokens
	y := make([]float32, len(x))
	for i := range checkImages {
		tokens := x[i*n*c : (i+1)*n*c]
		for q := range n {
			var total float64
			sums := [c]float64{}
			for k := range n {
				var score float64
				for j := range c {
					score += float64(tokens[q*c+j]) * float64(tokens[k*c+j])
				}
				weight := math.Exp(score)
				total += weight
				for j := range c {
					sums[j] += weight * float64(tokens[k*c+j])
				}
			}
			for j := range c {
				y[(i*n+q)*c+j] = float32(sums[j] / total)
			}
		}
	}
	return y
}
