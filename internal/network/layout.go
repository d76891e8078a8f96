package network

import (
	"math"

	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// stack holds the dimensions of a stack of feature maps.
type stack struct{ n, c, h, w int }

func (m stack) tokens() int { return m.n * m.h * m.w }

// shape returns the shape of the tensor of feature maps: (n, c, h, w), or with the
// channels last (n, h, w, c).
func (b *builder) shape(m stack) []int {
	if b.Dialect == CUDA {
		return []int{m.n, m.h, m.w, m.c}
	}
	return []int{m.n, m.c, m.h, m.w}
}

// channelAxis returns the dimension of feature maps that has the channels.
func (b *builder) channelAxis() int64 {
	if b.Dialect == CUDA {
		return 3
	}
	return 1
}

// inputMaps adds feature maps of (n, c, h, w) as an input of the network.
func (b *builder) inputMaps(name string, m stack) onnx.Value {
	v := b.input(name, m.n, m.c, m.h, m.w)
	if b.Dialect == CUDA {
		return b.transpose(v, 0, 2, 3, 1)
	}
	return v
}

// outputMaps makes feature maps an output of the network, (n, c, h, w).
func (b *builder) outputMaps(name string, v onnx.Value, m stack) {
	if b.Dialect == CUDA {
		v = b.transpose(v, 0, 3, 1, 2)
	}
	b.output(name, v, m.n, m.c, m.h, m.w)
}

// overMaps reshapes c values, one for each channel, so that they apply to all pixels of
// feature maps.
func (b *builder) overMaps(v onnx.Value, c int) onnx.Value {
	if b.Dialect == CUDA {
		return v // the last dimension
	}
	return b.reshape(v, 1, c, 1, 1)
}

// join appends the channels of y to those of x.
func (b *builder) join(x, y onnx.Value) onnx.Value {
	return b.Op("Concat", []onnx.Value{x, y}, onnx.Int("axis", b.channelAxis()))
}

// someChannels returns the channels from (inclusive) to to (exclusive) of feature maps.
func (b *builder) someChannels(x onnx.Value, from, to int) onnx.Value {
	return b.Op("Slice", []onnx.Value{x, b.Ints(int64(from)), b.Ints(int64(to)), b.Ints(b.channelAxis())})
}

// rows are those of feature maps from (inclusive) to to (exclusive).
type rows struct{ from, to int }

// wider returns the rows with n more on either side, as far as there are height rows.
func (r rows) wider(n, height int) rows { return rows{max(r.from-n, 0), min(r.to+n, height)} }

// someRows returns the wanted rows of feature maps that have the rows has.
func (b *builder) someRows(x onnx.Value, has, want rows) onnx.Value {
	if want == has {
		return x
	}
	axis := int64(2)
	if b.Dialect == CUDA {
		axis = 1
	}
	return b.Op("Slice", []onnx.Value{x, b.Ints(int64(want.from - has.from)), b.Ints(int64(want.to - has.from)), b.Ints(axis)})
}

// toTokens turns feature maps into (n·h·w, c).
func (b *builder) toTokens(x onnx.Value, m stack) onnx.Value {
	if b.Dialect != CUDA {
		x = b.transpose(x, 0, 2, 3, 1)
	}
	return b.reshape(x, m.tokens(), m.c)
}

// toMaps turns (n·h·w, c) into feature maps.
func (b *builder) toMaps(x onnx.Value, m stack) onnx.Value {
	x = b.reshape(x, m.n, m.h, m.w, m.c)
	if b.Dialect != CUDA {
		x = b.transpose(x, 0, 3, 1, 2)
	}
	return x
}

// toSequences turns feature maps of n = batch·frames into (batch·h·w·frames, c): one
// sequence of frames for each pixel.
func (b *builder) toSequences(x onnx.Value, m stack, frames int) onnx.Value {
	if b.Dialect == CUDA {
		x = b.transpose(b.reshape(x, m.n/frames, frames, m.h*m.w, m.c), 0, 2, 1, 3)
	} else {
		x = b.transpose(b.reshape(x, m.n/frames, frames, m.c, m.h*m.w), 0, 3, 1, 2)
	}
	return b.reshape(x, m.tokens(), m.c)
}

// fromSequences turns (batch·h·w·frames, c) into feature maps of n = batch·frames.
func (b *builder) fromSequences(x onnx.Value, m stack, frames int) onnx.Value {
	x = b.reshape(x, m.n/frames, m.h*m.w, frames, m.c)
	if b.Dialect == CUDA {
		x = b.transpose(x, 0, 2, 1, 3)
	} else {
		x = b.transpose(x, 0, 2, 3, 1)
	}
	return b.reshape(x, b.shape(m)...)
}

// conv builds a convolution of feature maps; pads are top, left, bottom, right.
func (b *builder) conv(x onnx.Value, name string, in, out, kernel, stride int, pads ...int64) onnx.Value {
	b.wantLayer(name, []int{out, in, kernel, kernel})
	w := b.rows(b.Compute, name+".weight", 0, out, out, in, kernel, kernel)
	return b.convolve(x, w, b.rows(b.Compute, name+".bias", 0, out, out), kernel, stride, pads...)
}

// convolve builds a convolution with the weight w, (out, in, kernel, kernel), and a bias,
// which may be "". Both have the type of the arithmetic.
func (b *builder) convolve(x, w, bias onnx.Value, kernel, stride int, pads ...int64) onnx.Value {
	domain, op := "", "Conv"
	if b.Dialect == CUDA {
		// Weights are (out, kernel, kernel, in). They must be constant: the kernel looks
		// at them when the session is created (PrePack in ONNX Runtime's
		// core/providers/cuda/nn/conv.cc). Before that, the runtime computes what
		// depends on nothing but constants.
		domain, op = onnx.Microsoft, "NhwcConv"
		w = b.transpose(w, 0, 2, 3, 1)
	}
	in := []onnx.Value{b.as(x, b.Activations, b.Compute), w}
	if bias != "" {
		in = append(in, bias)
	}
	k, s := int64(kernel), int64(stride)
	y := b.OpIn(domain, op, in, onnx.Ints("kernel_shape", k, k), onnx.Ints("strides", s, s), onnx.Ints("pads", pads...))
	return b.as(y, b.Compute, b.Activations)
}

// unbiasedConv3 is conv3 without the bias, which the checkpoint has nevertheless.
func (b *builder) unbiasedConv3(x onnx.Value, name string, in, out int) onnx.Value {
	b.wantLayer(name, []int{out, in, 3, 3})
	return b.convolve(x, b.rows(b.Compute, name+".weight", 0, out, out, in, 3, 3), "", 3, 1, 1, 1, 1, 1)
}

// addConv3 returns x plus a 3×3 convolution of y. All three have the channels of m.
func (b *builder) addConv3(x, y onnx.Value, name string, m stack) onnx.Value {
	if !b.addsBias(m.c) {
		return b.add(x, b.conv3(y, name, m.c, m.c))
	}
	return b.reshape(b.addBias(x, b.unbiasedConv3(y, name, m.c, m.c), name, m.c), b.shape(m)...)
}

// conv3 builds a 3×3 convolution that keeps the size.
func (b *builder) conv3(x onnx.Value, name string, in, out int) onnx.Value {
	return b.conv(x, name, in, out, 3, 1, 1, 1, 1, 1)
}

// halve builds a 3×3 convolution that halves the size, of maps that are padded only on the
// right and at the bottom.
func (b *builder) halve(x onnx.Value, name string, c int) onnx.Value {
	if b.Dialect != CUDA {
		return b.conv(x, name, c, c, 3, 2, 0, 0, 1, 1)
	}
	// Not all of cuDNN's kernels take uneven pads, and Pad has no kernel for CUDA in this
	// operator set (OperatorKernels.md). Two more rows and columns on each side make one
	// more of the output, which is dropped.
	y := b.conv(x, name, c, c, 3, 2, 2, 2, 2, 2)
	return b.Op("Slice", []onnx.Value{y, b.Ints(1, 1), b.Ints(math.MaxInt32, math.MaxInt32), b.Ints(1, 2)})
}

// double doubles the size of feature maps by repeating pixels.
func (b *builder) double(x onnx.Value) onnx.Value {
	scales := []float32{1, 1, 2, 2}
	if b.Dialect == CUDA {
		scales = []float32{1, 2, 2, 1}
	}
	return b.Op("Resize", []onnx.Value{x, "", b.Floats(scales, 4)},
		onnx.String("mode", "nearest"), onnx.String("coordinate_transformation_mode", "asymmetric"), onnx.String("nearest_mode", "floor"))
}

// doubleConv3 doubles feature maps of c channels and builds a 3×3 convolution of the result.
// weight is the name of a wanted tensor, and bias may be "".
//
// For OpenVINO both become one transposed convolution of 4×4. It multiplies 16 times for four
// pixels instead of 36, and the result differs by rounding only. ONNX Runtime's takes several
// times the memory of the maps on a CPU (docs/benchmarks.md).
func (b *builder) doubleConv3(x onnx.Value, weight string, bias onnx.Value, c int) onnx.Value {
	if b.Dialect != OpenVINO {
		return b.convolve(b.double(x), b.rows(b.Compute, weight, 0, c, c, c, 3, 3), bias, 3, 1, 1, 1, 1, 1)
	}
	w := tensor.New(b.Compute, c, c, 4, 4)
	if b.weights != nil { // otherwise only the size counts
		v := transposed(b.values(weight, c, c, 3, 3), c)
		switch b.Compute {
		case tensor.F16:
			tensor.F32ToF16(w.Data, v)
		case tensor.BF16:
			tensor.F32ToBF16(w.Data, v)
		default:
			copy(w.F32(), v)
		}
	}
	in := []onnx.Value{b.as(x, b.Activations, b.Compute), b.Weight(onnx.Weight{Name: weight + " transposed", Tensor: w})}
	if bias != "" {
		in = append(in, bias)
	}
	y := b.Op("ConvTranspose", in, onnx.Ints("kernel_shape", 4, 4), onnx.Ints("strides", 2, 2), onnx.Ints("pads", 1, 1, 1, 1))
	return b.as(y, b.Compute, b.Activations)
}

// transposed returns the weight of a transposed convolution, (c, c, 4, 4) with the inputs
// first, for that of a 3×3 convolution of doubled maps, as spread says for each direction.
func transposed(w []float32, c int) []float32 {
	out := make([]float32, c*c*16)
	for o := range c {
		for i := range c {
			from, to := w[(o*c+i)*9:][:9], out[(i*c+o)*16:][:16]
			var rows [4][3]float32
			for x := range 3 {
				for y, v := range spread(from[x], from[3+x], from[6+x]) {
					rows[y][x] = v
				}
			}
			for y, row := range rows {
				four := spread(row[0], row[1], row[2])
				copy(to[4*y:], four[:])
			}
		}
	}
	return out
}

// spread returns the four weights for the three of a convolution of doubled pixels. An output
// pixel sees three doubled pixels, of which two are the same: the even ones see the pixel
// before through the first weight and their own through the sum of the others, the odd ones
// see their own through the sum of the first two and the next one through the last.
func spread(a, b, c float32) [4]float32 { return [4]float32{c, b + c, a + b, a} }
