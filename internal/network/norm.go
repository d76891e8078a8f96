package network

import (
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The epsilons of the normalisations (docs/spec/latentsync.md, sections 4.1 and 5).
const (
	epsResnet      = 1e-5
	epsTransformer = 1e-6
	epsLayer       = 1e-5
	epsVAE         = 1e-6
)

const groups = 32 // of every GroupNorm

func (b *builder) layerNorm(x onnx.Value, name string, c int) onnx.Value {
	return b.Op("LayerNormalization", []onnx.Value{x, b.weight(name+".weight", c), b.weight(name+".bias", c)},
		onnx.Int("axis", -1), onnx.Float("epsilon", epsLayer))
}

// groupNorm normalises feature maps over each group of channels: of each frame alone if
// frames is 1, otherwise of all frames of a batch item together.
func (b *builder) groupNorm(x onnx.Value, name string, m stack, frames int, eps float32) onnx.Value {
	if b.fusesGroupNorm(m.c) {
		return b.fusedGroupNorm(x, name, m, frames, eps, 0)
	}
	scale, shift := b.weight(name+".weight", m.c), b.weight(name+".bias", m.c)
	if b.reducesGroupNorm() {
		return b.reducedGroupNorm(x, scale, shift, m, frames, eps)
	}
	y := b.mul(b.normalizeGroups(x, m, frames, eps), b.overMaps(scale, m.c))
	return b.add(y, b.overMaps(shift, m.c))
}

// reducesGroupNorm reports whether groupNorm is reducedGroupNorm, for one of two reasons.
//
// OpenVINO changes the layout of feature maps for InstanceNormalization, and changes it back
// for the next convolution. That took 9 % of the time of the VAE's decoder (docs/benchmarks.md).
//
// ONNX Runtime's InstanceNormalization adds up a whole group on a CPU. Where an image is of one
// colour, these are equal numbers, whose rounding always goes the same way. The latents of a
// half black image were off by 6e-4; with sums of rows they are off by 4e-5. Only encoders see
// such images. A float16 may not hold a sum of squares.
func (b *builder) reducesGroupNorm() bool {
	return b.Dialect == OpenVINO || b.encodes && b.SumsRows && b.Activations == tensor.F32
}

// reducedGroupNorm is groupNorm from sums of rows: first of each row, then of a group's rows.
// The variance is computed from differences to the mean.
func (b *builder) reducedGroupNorm(x, scale, shift onnx.Value, m stack, frames int, eps float32) onnx.Value {
	n, part := m.n/frames, m.c/groups
	over := func(op string, x onnx.Value, axes ...int64) onnx.Value {
		return b.Op(op, []onnx.Value{x, b.Ints(axes...)})
	}
	reduce := func(op string, x onnx.Value) onnx.Value { // to (n, 1, groups, 1)
		return over(op, b.reshape(over(op, x, 3), n, frames, groups, part*m.h), 1, 3)
	}
	channels := func(v onnx.Value) onnx.Value { // repeats what broadcasts to (n, frames, groups, part)
		return b.reshape(b.Op("Expand", []onnx.Value{v, b.Ints(int64(n), int64(frames), groups, int64(part))}), m.n, m.c, 1, 1)
	}
	mean := channels(reduce("ReduceMean", x))
	d := b.Op("Sub", []onnx.Value{x, mean})
	norm := reduce("ReduceL2", d)
	variance := b.mul(b.mul(norm, norm), b.constant([]float32{1 / float32(frames*part*m.h*m.w)}))
	deviation := b.Op("Sqrt", []onnx.Value{b.add(variance, b.constant([]float32{eps}))})
	return b.add(b.mul(d, b.Op("Div", []onnx.Value{b.overMaps(scale, m.c), channels(deviation)})), b.overMaps(shift, m.c))
}

// groupNormSiLU is groupNorm with SiLU after it.
func (b *builder) groupNormSiLU(x onnx.Value, name string, m stack, frames int, eps float32) onnx.Value {
	if b.fusesGroupNorm(m.c) {
		return b.fusedGroupNorm(x, name, m, frames, eps, 1)
	}
	return b.silu(b.groupNorm(x, name, m, frames, eps))
}

// convNormSiLU is groupNormSiLU of a 3×3 convolution of x, which has in channels, plus t,
// (1, c), which is added to all pixels.
func (b *builder) convNormSiLU(x, t onnx.Value, conv string, in int, name string, m stack, frames int, eps float32) onnx.Value {
	if !b.fusesGroupNorm(m.c) {
		y := b.add(b.conv3(x, conv, in, m.c), b.overMaps(t, m.c))
		return b.groupNormSiLU(y, name, m, frames, eps)
	}
	y := b.unbiasedConv3(x, conv, in, m.c)
	if n := m.n / frames; n > 1 { // a row for each image
		t = b.Op("Expand", []onnx.Value{t, b.Ints(int64(n), int64(m.c))})
	}
	return b.fusedGroupNorm(y, name, m, frames, eps, 1, t, b.rows(b.Activations, conv+".bias", 0, m.c, m.c))
}

// fusesGroupNorm reports whether the dialect has an operator for groupNorm. The kernel
// takes an even number of channels in a group, and at most 512 (group_norm_impl.cu and
// group_norm_common_base.h in ONNX Runtime's contrib_ops/cuda/diffusion).
func (b *builder) fusesGroupNorm(c int) bool {
	return b.Dialect == CUDA && c%(2*groups) == 0 && c/groups <= 512
}

// fusedGroupNorm is groupNorm in one operator, which sums in float32. activation is 1 for
// SiLU after it. added are nothing, or what is added to x before: a row for each image, and a
// bias. The frames that are normalised together are one high image.
func (b *builder) fusedGroupNorm(x onnx.Value, name string, m stack, frames int, eps float32, activation int64, added ...onnx.Value) onnx.Value {
	// The kernel takes these in float32 only (group_norm.cc).
	b.want(checkpoint.Want{Name: name + ".weight", Shape: []int{m.c}})
	b.want(checkpoint.Want{Name: name + ".bias", Shape: []int{m.c}})
	scale, shift := b.rows(tensor.F32, name+".weight", 0, m.c, m.c), b.rows(tensor.F32, name+".bias", 0, m.c, m.c)
	op := "GroupNorm"
	if len(added) > 0 {
		op = "SkipGroupNorm"
	}
	if frames > 1 {
		x = b.reshape(x, m.n/frames, frames*m.h, m.w, m.c)
	}
	y := b.OpIn(onnx.Microsoft, op, append([]onnx.Value{x, scale, shift}, added...),
		onnx.Int("groups", groups), onnx.Float("epsilon", eps), onnx.Int("activation", activation), onnx.Int("channels_last", 1))
	if frames > 1 {
		y = b.reshape(y, b.shape(m)...)
	}
	return y
}

// normalizeGroups is groupNorm without weights. It uses InstanceNormalization, which
// runtimes compute several times faster than GroupNormalization.
func (b *builder) normalizeGroups(x onnx.Value, m stack, frames int, eps float32) onnx.Value {
	// The numbers of a group lie in outer pieces of inner numbers each.
	n, outer, inner := m.n/frames, frames, m.c/groups*m.h*m.w
	if b.Dialect == CUDA {
		outer, inner = frames*m.h*m.w, m.c/groups
	}
	y := x
	if outer > 1 {
		y = b.transpose(b.reshape(y, n, outer, groups, inner), 0, 2, 1, 3)
	}
	ones, zeros := make([]float32, groups), make([]float32, groups)
	for i := range ones {
		ones[i] = 1
	}
	y = b.reshape(y, n, groups, outer*inner)
	y = b.Op("InstanceNormalization", []onnx.Value{y, b.constant(ones, groups), b.constant(zeros, groups)}, onnx.Float("epsilon", eps))
	if outer > 1 {
		y = b.transpose(b.reshape(y, n, groups, outer, inner), 0, 2, 1, 3)
	}
	return b.reshape(y, b.shape(m)...)
}
