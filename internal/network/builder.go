// Package network builds the graphs of the engines' networks from the tensors of their
// checkpoints: Whisper's encoder, the VAE and the UNets of LatentSync and MuseTalk
// (docs/spec/latentsync.md, sections 2 to 5; docs/spec/musetalk.md, sections 2 to 5), and
// TAESD, which replaces the VAE (docs/spec/taesd.md).
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
	// Plain uses only ONNX's own operators.
	Plain Dialect = iota
	// OpenVINO uses ONNX's operators in the forms that OpenVINO computes fastest on a
	// CPU; see doubleConv3 and reducedGroupNorm.
	OpenVINO
	// Microsoft adds ONNX Runtime's flash attention.
	Microsoft
	// CUDA also uses the operators that ONNX Runtime has for CUDA alone. They take
	// feature maps with the channels last, (n, h, w, c), so in this dialect all
	// feature maps are, except the inputs and outputs of a network.
	CUDA
)

func (d Dialect) String() string { return [...]string{"plain", "openvino", "microsoft", "cuda"}[d] }

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
	// Stored is the type of the matrices and kernels that are passed with each run and
	// converted to Compute for their layer alone, so that a session holds no copy of
	// them: F16, or I8 with a scale for each output channel, which is never compiled.
	// Tensors of another type in the checkpoint are part of the graph, and with 0 all.
	Stored tensor.DType
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
	// SumsRows reports whether the group norms of the VAE's encoder are built from sums of
	// rows also for ONNX Runtime; see reducesGroupNorm.
	SumsRows bool
}

// For returns the target for the named backend and a device. On a device on which tensors
// stay, the activations have the type of the arithmetic.
func For(name string, device backend.Device, compute tensor.DType) Target {
	t := Target{Compute: compute, Activations: tensor.F32, SumsRows: name == "onnxruntime" && device.ID == "cpu"}
	if device.Resident {
		t.Activations = compute
	}
	// WebGPU's flash attention, for 32 queries and more, is wrong on SwiftShader (plugin
	// 0.4.0), and was on NVIDIA's GPUs in another version (onnxruntime's pull request
	// 28520). Its MatMul and Softmax are right.
	//
	// TensorRT-RTX compiles ONNX's own operators, and leaves others to the CPU.
	plugin := strings.HasPrefix(device.ID, "webgpu:") || strings.HasPrefix(device.ID, "tensorrt-rtx:")
	if name == "onnxruntime" && !plugin {
		t.Dialect = Microsoft
	}
	if device.ChannelsLast {
		t.Dialect = CUDA
	}
	if name == "openvino" && device.ID == "cpu" {
		t.Dialect = OpenVINO
	}
	return t
}

// microsoft reports whether the dialect has ONNX Runtime's own operators.
func (d Dialect) microsoft() bool { return d == Microsoft || d == CUDA }

// builder builds a graph.
type builder struct {
	*onnx.Graph
	weights *checkpoint.File // f32, f16 or bf16; nil to only list the wanted tensors
	Target
	file   string // absolute path of weights
	wanted *wanted
	// aliases returns more names that a wanted tensor can have; nil returns none.
	aliases func(name string) []string
	encodes bool  // the network is the VAE's encoder
	err     error // about the first weight that is missing or has a wrong shape
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
	if b.aliases != nil {
		w.Aliases = b.aliases(w.Name)
	}
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
	t, scales, offset := &tensor.Tensor{DType: tensor.F32, Shape: shape}, (*tensor.Tensor)(nil), int64(0)
	if b.weights == nil {
		if b.Stored != 0 && len(shape) > 1 {
			t.DType, scales = b.Stored, &tensor.Tensor{DType: tensor.F32, Shape: shape[:1]}
		}
	} else {
		key, found := b.weights.Find(b.wanted.byName[name])
		if found == nil || found.Len() != tensor.Volume(shape) {
			if b.err == nil {
				b.err = errShape(name, shape, found)
			}
			return ""
		}
		t, offset, scales = found, b.weights.Offset(key), b.weights.Tensor(key+checkpoint.ScaleSuffix)
	}
	w := onnx.Weight{Name: name, Tensor: &tensor.Tensor{DType: t.DType, Shape: shape, Data: t.Data}, File: b.file, Offset: offset}
	if to-from != shape[0] {
		row := len(t.Data) / shape[0]
		w.Name = fmt.Sprintf("%s[%d:%d]", name, from, to)
		w.Shape = append([]int{to - from}, shape[1:]...)
		w.Data = t.Data[row*from : row*to]
		w.Offset += int64(row * from)
	}
	switch {
	case t.DType == tensor.I8:
	case t.DType == b.Stored:
		return b.as(b.Feed(w), t.DType, as)
	default:
		return b.as(b.Weight(w), t.DType, as)
	}
	// The scales are few, so a copy is cheap.
	s := onnx.Weight{Name: w.Name + checkpoint.ScaleSuffix, Tensor: &tensor.Tensor{DType: tensor.F32, Shape: []int{to - from}}}
	if b.weights != nil {
		s.Data = scales.Data[4*from : 4*to]
	}
	return b.as(b.Op("DequantizeLinear", []onnx.Value{b.Feed(w), b.Weight(s)}, onnx.Int("axis", 0)), tensor.F32, as)
}

func errShape(name string, shape []int, found *tensor.Tensor) error {
	return fmt.Errorf("the weight %s must have the shape %v, but the checkpoint has %v", name, shape, found)
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

// firstRows returns x up to row n (exclusive) of the first dimension.
func (b *builder) firstRows(x, n onnx.Value) onnx.Value {
	return b.Op("Slice", []onnx.Value{x, b.Ints(0), n, b.Ints(0)})
}

func (b *builder) add(x, y onnx.Value) onnx.Value { return b.Op("Add", []onnx.Value{x, y}) }
func (b *builder) mul(x, y onnx.Value) onnx.Value { return b.Op("Mul", []onnx.Value{x, y}) }

func (b *builder) silu(x onnx.Value) onnx.Value {
	if b.Dialect.microsoft() {
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
	if b.Dialect.microsoft() {
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

// addLinear returns y + linear(x), for y of (N, out).
func (b *builder) addLinear(y, x onnx.Value, name string, in, out int) onnx.Value {
	if !b.addsBias(out) {
		return b.add(y, b.linear(x, name, in, out))
	}
	b.wantLayer(name, []int{out, in})
	return b.reshape(b.addBias(y, b.gemm(x, name, false, in, 0, out, out), name, out), -1, out)
}

// addsBias reports whether the dialect has an operator for addBias, which takes these
// widths (bias_add.cc). A Gemm with a bias writes the bias to all rows first, and then adds
// the product (core/providers/cuda/math/gemm.cc); a convolution adds its bias afterwards.
func (b *builder) addsBias(c int) bool {
	return b.Dialect == CUDA && (c == 320 || c == 640 || c == 1280)
}

// addBias returns the sum of x, y and the bias of the named layer, as rows of c.
func (b *builder) addBias(x, y onnx.Value, name string, c int) onnx.Value {
	bias := b.rows(b.Activations, name+".bias", 0, c, c)
	return b.OpIn(onnx.Microsoft, "BiasAdd", []onnx.Value{b.reshape(y, 1, -1, c), bias, b.reshape(x, 1, -1, c)})
}

// geglu builds a linear layer of rows to 2·out numbers, of which the first half is
// multiplied with the GELU of the second.
func (b *builder) geglu(x onnx.Value, name string, rows, in, out int) onnx.Value {
	b.wantLayer(name, []int{2 * out, in})
	// The operator takes these widths, and counts in 32 bits (bias_split_gelu.cc and
	// bias_split_gelu_impl.cu).
	if b.Dialect == CUDA && (out == 1280 || out == 2560 || out == 5120) && rows*2*out <= math.MaxInt32 {
		y := b.gemm(x, name, false, in, 0, 2*out, 2*out)
		bias := b.rows(b.Activations, name+".bias", 0, 2*out, 2*out)
		y = b.OpIn(onnx.Microsoft, "BiasSplitGelu", []onnx.Value{b.reshape(y, 1, -1, 2*out), bias})
		return b.reshape(y, -1, out)
	}
	// Two products, because splitting one would copy both halves.
	value := b.gemm(x, name, true, in, 0, out, 2*out)
	gate := b.gemm(x, name, true, in, out, 2*out, 2*out)
	return b.mul(value, b.gelu(gate))
}
