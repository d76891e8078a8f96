// Package network builds the graphs of LatentSync's networks from the tensors of their
// checkpoints: Whisper's encoder, the VAE and the denoising UNet
// (docs/spec/latentsync.md, sections 2 to 5).
//
// Each network is described once, by functions that build its layers. With a checkpoint
// they build the graphs. Without one they list the tensors that a checkpoint must have.
package network

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Dialect selects the operators that a backend runs best.
type Dialect int

// The dialects.
const (
	// Plain uses only ONNX's own operators, which OpenVINO fuses.
	Plain Dialect = iota
	// Microsoft adds ONNX Runtime's flash attention.
	Microsoft
)

// Target describes what graphs are built for.
type Target struct {
	Dialect Dialect
	// Compute is the element type of convolutions and linear layers, which hold
	// nearly all of the weights and the work: F32, or a half precision of the device.
	// Weights of the same type are used without conversion. Everything else is
	// computed in float32.
	Compute tensor.DType
	// Activations is the element type of everything between the inputs and outputs
	// of a network, which stay float32: F32, the default, or that of Compute. On a
	// GPU half as many bytes are twice the speed of all that is not a convolution or
	// a product, and the fused attentions take nothing else. The kernels of the
	// normalisations sum in float32 all the same.
	Activations tensor.DType
	// Slices is the number of blocks into which the queries of an attention are
	// divided; 0 and 1 are a single block. If a sequence does not divide evenly, or
	// blocks would be shorter than sliceTokens, there are fewer. The result is the
	// same.
	//
	// Slices save memory where a backend holds the scores of a whole block: 4096
	// tokens of 8 heads, a frame of 512 pixels at the UNet's first level, take 544 MiB
	// in one block and 154 MiB in 4. The fused operators of OpenVINO and ONNX Runtime
	// on a CPU hold no scores, so slices save nothing there (37 and 27 MiB in one
	// block, 52 and 25 MiB in 4). TestAttentionMemory measures it.
	Slices int
}

// For returns the target for the named backend and a device. On a device on which tensors
// stay, the activations have the type of the arithmetic.
func For(name string, device backend.Device, compute tensor.DType) Target {
	t := Target{Compute: compute}
	if device.Resident {
		t.Activations = compute
	}
	// WebGPU's flash attention, for 32 queries and more, is wrong on SwiftShader (plugin
	// 0.4.0), and was on NVIDIA's GPUs in another version (onnxruntime's pull request
	// 28520). Its MatMul and Softmax are right.
	if name == "onnxruntime" && !strings.HasPrefix(device.ID, "webgpu:") {
		t.Dialect = Microsoft
	}
	return t
}

// The epsilons of the normalisations (docs/spec/latentsync.md, sections 4.1 and 5).
const (
	epsResnet      = 1e-5
	epsTransformer = 1e-6
	epsLayer       = 1e-5
	epsVAE         = 1e-6
)

const groups = 32 // of every GroupNorm

// builder builds a graph.
type builder struct {
	*onnx.Graph
	weights *checkpoint.File // f32, f16 or bf16; nil to only list the wanted tensors
	Target
	file   string // absolute path of weights
	wanted *wanted
	err    error // about the first weight that is missing or has a wrong shape
}

// wanted lists the tensors that a network takes from a checkpoint.
type wanted struct {
	list   []checkpoint.Want
	byName map[string]checkpoint.Want
}

func newBuilder(name string, w *checkpoint.File, t Target) *builder {
	t.Compute, t.Activations = cmp.Or(t.Compute, tensor.F32), cmp.Or(t.Activations, tensor.F32)
	b := &builder{Graph: onnx.New(name), weights: w, Target: t, wanted: &wanted{byName: map[string]checkpoint.Want{}}}
	if w != nil {
		b.file, b.err = filepath.Abs(w.Path())
	}
	return b
}

// fork begins another graph of the same network.
func (b *builder) fork(name string) *builder {
	f := *b
	f.Graph = onnx.New(name)
	return &f
}

// want adds a tensor to the wanted ones.
func (b *builder) want(w checkpoint.Want) {
	b.wanted.list = append(b.wanted.list, w)
	b.wanted.byName[w.Name] = w
}

// wantLayer adds the weight of a layer, in one of several shapes, and its bias.
func (b *builder) wantLayer(name string, shape []int, others ...[]int) {
	b.want(checkpoint.Want{Name: name + ".weight", Shape: shape, AnyShape: others})
	b.want(checkpoint.Want{Name: name + ".bias", Shape: shape[:1]})
}

// weight wants the named tensor and adds it to the graph, with the type of the activations.
func (b *builder) weight(name string, shape ...int) onnx.Value {
	b.want(checkpoint.Want{Name: name, Shape: shape})
	return b.rows(b.Activations, name, 0, shape[0], shape...)
}

// rows adds rows from (inclusive) to to (exclusive) of the named tensor to the graph, with
// elements of type as. The tensor must be a wanted one and is read with the given shape.
func (b *builder) rows(as tensor.DType, name string, from, to int, shape ...int) onnx.Value {
	t, offset := &tensor.Tensor{DType: tensor.F32, Shape: shape}, int64(0)
	if b.weights != nil {
		key, found := b.weights.Find(b.wanted.byName[name])
		if found == nil || found.Len() != tensor.Volume(shape) {
			if b.err == nil {
				b.err = fmt.Errorf("the weight %s must have the shape %v, but the checkpoint has %v", name, shape, found)
			}
			return ""
		}
		t, offset = found, b.weights.Offset(key)
	}
	w := onnx.Weight{Name: name, Tensor: &tensor.Tensor{DType: t.DType, Shape: shape, Data: t.Data}, File: b.file, Offset: offset}
	if to-from != shape[0] {
		row := len(t.Data) / shape[0]
		w.Name = fmt.Sprintf("%s[%d:%d]", name, from, to)
		w.Shape = append([]int{to - from}, shape[1:]...)
		w.Data = t.Data[row*from : row*to]
		w.Offset += int64(row * from)
	}
	return b.as(b.Weight(w), t.DType, as)
}

// as casts v from one type to another, unless they are the same.
func (b *builder) as(v onnx.Value, from, to tensor.DType) onnx.Value {
	if from == to {
		return v
	}
	return b.Cast(v, to)
}

// constant adds numbers, with the type of the activations.
func (b *builder) constant(v []float32, shape ...int) onnx.Value {
	return b.as(b.Floats(v, shape...), tensor.F32, b.Activations)
}

// input adds an input of the network.
func (b *builder) input(name string, shape ...int) onnx.Value {
	return b.as(b.Input(name, tensor.F32, shape...), tensor.F32, b.Activations)
}

// output makes v an output of the network.
func (b *builder) output(name string, v onnx.Value, shape ...int) {
	b.Output(name, b.as(v, b.Activations, tensor.F32), tensor.F32, shape...)
}

// channels adds a tensor of one dimension as (1, c, 1, 1), one value for each channel of
// (N, C, H, W).
func (b *builder) channels(name string, c int) onnx.Value {
	return b.reshape(b.weight(name, c), 1, c, 1, 1)
}

func (b *builder) reshape(v onnx.Value, shape ...int) onnx.Value {
	dims := make([]int64, len(shape))
	for i, d := range shape {
		dims[i] = int64(d)
	}
	return b.Op("Reshape", []onnx.Value{v, b.Ints(dims...)})
}

func (b *builder) transpose(v onnx.Value, perm ...int64) onnx.Value {
	return b.Op("Transpose", []onnx.Value{v}, onnx.Ints("perm", perm...))
}

func (b *builder) add(x, y onnx.Value) onnx.Value { return b.Op("Add", []onnx.Value{x, y}) }
func (b *builder) mul(x, y onnx.Value) onnx.Value { return b.Op("Mul", []onnx.Value{x, y}) }

func (b *builder) silu(x onnx.Value) onnx.Value {
	if b.Dialect == Microsoft {
		return b.OpIn(onnx.Microsoft, "QuickGelu", []onnx.Value{x}, onnx.Float("alpha", 1))
	}
	return b.mul(x, b.Op("Sigmoid", []onnx.Value{x}))
}

func (b *builder) gelu(x onnx.Value) onnx.Value { return b.Op("Gelu", []onnx.Value{x}) }

// linear builds a linear layer, y = x·Wᵀ + b, for x of (N, in).
func (b *builder) linear(x onnx.Value, name string, in, out int) onnx.Value {
	b.wantLayer(name, []int{out, in})
	return b.gemm(x, name, true, in, 0, out, out)
}

// unbiased builds a linear layer without a bias.
func (b *builder) unbiased(x onnx.Value, name string, in, out int) onnx.Value {
	b.want(checkpoint.Want{Name: name + ".weight", Shape: []int{out, in}})
	return b.gemm(x, name, false, in, 0, out, out)
}

// pointwise builds a linear layer with the weight of a 1×1 convolution.
func (b *builder) pointwise(x onnx.Value, name string, in, out int) onnx.Value {
	b.wantLayer(name, []int{out, in, 1, 1}, []int{out, in})
	return b.gemm(x, name, true, in, 0, out, out)
}

// gemm builds a linear layer from the rows from (inclusive) to to (exclusive) of a weight
// and a bias of out rows. Both must be wanted tensors.
func (b *builder) gemm(x onnx.Value, name string, bias bool, in, from, to, out int) onnx.Value {
	w := b.rows(b.Compute, name+".weight", from, to, out, in)
	var add []onnx.Value
	if bias {
		add = append(add, b.rows(b.Compute, name+".bias", from, to, out))
	}
	x = b.as(x, b.Activations, b.Compute)
	var y onnx.Value
	if b.Dialect == Microsoft {
		y = b.Op("Gemm", append([]onnx.Value{x, w}, add...), onnx.Int("transB", 1))
	} else {
		// OpenVINO holds a Gemm's transposed weight twice, and this one once.
		y = b.Op("MatMul", []onnx.Value{x, b.transpose(w, 1, 0)})
		for _, v := range add {
			y = b.add(y, v)
		}
	}
	return b.as(y, b.Compute, b.Activations)
}

func (b *builder) layerNorm(x onnx.Value, name string, c int) onnx.Value {
	return b.Op("LayerNormalization", []onnx.Value{x, b.weight(name+".weight", c), b.weight(name+".bias", c)},
		onnx.Int("axis", -1), onnx.Float("epsilon", epsLayer))
}

// conv builds a convolution of (N, in, H, W); pads are top, left, bottom, right.
func (b *builder) conv(x onnx.Value, name string, in, out, kernel, stride int, pads ...int64) onnx.Value {
	k := int64(kernel)
	b.wantLayer(name, []int{out, in, kernel, kernel})
	w := b.rows(b.Compute, name+".weight", 0, out, out, in, kernel, kernel)
	y := b.Op("Conv", []onnx.Value{b.as(x, b.Activations, b.Compute), w, b.rows(b.Compute, name+".bias", 0, out, out)},
		onnx.Ints("kernel_shape", k, k), onnx.Ints("strides", int64(stride), int64(stride)), onnx.Ints("pads", pads...))
	return b.as(y, b.Compute, b.Activations)
}

// conv3 builds a 3×3 convolution that keeps the size.
func (b *builder) conv3(x onnx.Value, name string, in, out int) onnx.Value {
	return b.conv(x, name, in, out, 3, 1, 1, 1, 1, 1)
}

// double doubles the size of (N, C, H, W) by repeating pixels.
func (b *builder) double(x onnx.Value) onnx.Value {
	return b.Op("Resize", []onnx.Value{x, "", b.Floats([]float32{1, 1, 2, 2}, 4)},
		onnx.String("mode", "nearest"), onnx.String("coordinate_transformation_mode", "asymmetric"), onnx.String("nearest_mode", "floor"))
}

// groupNorm normalises (batch·frames, C, H, W) over each group of channels: of each frame
// alone if frames is 1, otherwise of all frames of a batch item together. It uses
// InstanceNormalization, which both runtimes compute several times faster than
// GroupNormalization.
func (b *builder) groupNorm(x onnx.Value, name string, m stack, frames int, eps float32) onnx.Value {
	n, inner := m.n/frames, m.c/groups*m.h*m.w
	y := x
	if frames > 1 {
		y = b.transpose(b.reshape(y, n, frames, groups, inner), 0, 2, 1, 3)
	}
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y = b.reshape(y, n, groups, frames*inner)
	y = b.Op("InstanceNormalization", []onnx.Value{y, b.constant(ones, groups), b.constant(zeros, groups)}, onnx.Float("epsilon", eps))
	if frames > 1 {
		y = b.transpose(b.reshape(y, n, groups, frames, inner), 0, 2, 1, 3)
	}
	y = b.reshape(y, m.n, m.c, m.h, m.w)
	return b.add(b.mul(y, b.channels(name+".weight", m.c)), b.channels(name+".bias", m.c))
}

// stack holds the dimensions of a stack of feature maps, (n, c, h, w).
type stack struct{ n, c, h, w int }

func (m stack) tokens() int { return m.n * m.h * m.w }

// toTokens turns (n, c, h, w) into (n·h·w, c).
func (b *builder) toTokens(x onnx.Value, m stack) onnx.Value {
	return b.reshape(b.transpose(x, 0, 2, 3, 1), m.tokens(), m.c)
}

// toMaps turns (n·h·w, c) into (n, c, h, w).
func (b *builder) toMaps(x onnx.Value, m stack) onnx.Value {
	return b.transpose(b.reshape(x, m.n, m.h, m.w, m.c), 0, 3, 1, 2)
}

// sliceTokens is the least number of queries in a block. The scores of 256 tokens and 8
// heads with as many keys take only 2 MB.
const sliceTokens = 256

// slices returns the number of blocks for nq queries: the largest number up to
// Target.Slices that divides them evenly into blocks of sliceTokens or more.
func (t Target) slices(nq int) int {
	for n := min(t.Slices, nq/sliceTokens); n > 1; n-- {
		if nq%n == 0 {
			return n
		}
	}
	return 1
}

// blocks applies f to n equal parts of x along an axis of the given size, and joins the
// results along the same axis.
func (b *builder) blocks(x onnx.Value, axis, size, n int, f func(onnx.Value) onnx.Value) onnx.Value {
	if n == 1 {
		return f(x)
	}
	parts := make([]onnx.Value, n)
	for i := range parts {
		from, to := int64(i*size/n), int64((i+1)*size/n)
		parts[i] = f(b.Op("Slice", []onnx.Value{x, b.Ints(from), b.Ints(to), b.Ints(int64(axis))}))
	}
	return b.Op("Concat", parts, onnx.Int("axis", int64(axis)))
}

// attention computes softmax(q·kᵀ/√d)·v for each sequence of the batch and each head. q is
// (batch·nq, c), k and v are (batch·nk, c). It divides the queries into blocks, see
// Target.Slices.
func (b *builder) attention(q, k, v onnx.Value, batch, nq, nk, heads, c int) onnx.Value {
	d, n := c/heads, b.slices(nq)
	scale := float32(1 / math.Sqrt(float64(d)))
	if b.Dialect == Microsoft {
		k, v = b.reshape(k, batch, nk, c), b.reshape(v, batch, nk, c)
		y := b.blocks(b.reshape(q, batch, nq, c), 1, nq, n, func(q onnx.Value) onnx.Value {
			return b.OpIn(onnx.Microsoft, "MultiHeadAttention", []onnx.Value{q, k, v},
				onnx.Int("num_heads", int64(heads)), onnx.Float("scale", scale))
		})
		return b.reshape(y, batch*nq, c)
	}
	q = b.transpose(b.reshape(q, batch, nq, heads, d), 0, 2, 1, 3)
	k = b.transpose(b.reshape(k, batch, nk, heads, d), 0, 2, 3, 1)
	v = b.transpose(b.reshape(v, batch, nk, heads, d), 0, 2, 1, 3)
	y := b.blocks(q, 2, nq, n, func(q onnx.Value) onnx.Value {
		scores := b.Op("MatMul", []onnx.Value{b.mul(q, b.constant([]float32{scale})), k})
		return b.Op("MatMul", []onnx.Value{b.Op("Softmax", []onnx.Value{scores}, onnx.Int("axis", -1)), v})
	})
	return b.reshape(b.transpose(y, 0, 2, 1, 3), batch*nq, c)
}
