package network

import (
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// StepShape holds the sizes of a denoising step outside the UNet.
type StepShape struct {
	Frames   int  // of all windows of the call
	Out, In  int  // channels of the latents, and of the UNet's input
	Latent   int  // side of the latents
	Guidance bool // the noise has both halves of classifier-free guidance, the unconditional one second
}

// Step returns the graph of what happens between two runs of the UNet, for devices on
// which the latents stay: guidance, the sampler's step (docs/spec/latentsync.md, section
// 6.4 DDIM), and the UNet's next input. Its inputs are
//
//	x       (Frames, Out, Latent, Latent): the latents
//	noise   (Frames or 2·Frames, Out, Latent, Latent): what the UNet has predicted
//	last    (Frames, Out, Latent, Latent): x0 of the step before
//	rest    (Frames, In−Out, Latent, Latent): what the UNet's input has besides x
//	factors (StepFactors): those of sampler.Factors in their order, and the guidance scale
//
// and its outputs "next" (the latents), "x0", and "sample" (the UNet's input, twice with
// guidance).
func Step(s StepShape) *onnx.Graph {
	b := newBuilder("step", nil, Target{})
	in := func(name string, frames, channels int) onnx.Value {
		return b.Input(name, tensor.F32, frames, channels, s.Latent, s.Latent)
	}
	slice := func(v onnx.Value, from, to int) onnx.Value {
		return b.Op("Slice", []onnx.Value{v, b.Ints(int64(from)), b.Ints(int64(to)), b.Ints(0)})
	}
	sub := func(x, y onnx.Value) onnx.Value { return b.Op("Sub", []onnx.Value{x, y}) }
	x, last, rest := in("x", s.Frames, s.Out), in("last", s.Frames, s.Out), in("rest", s.Frames, s.In-s.Out)
	factors := b.Input("factors", tensor.F32, StepFactors)
	factor := func(i int) onnx.Value { return slice(factors, i, i+1) }

	var eps onnx.Value
	if s.Guidance {
		noise := in("noise", 2*s.Frames, s.Out)
		with, without := slice(noise, 0, s.Frames), slice(noise, s.Frames, 2*s.Frames)
		eps = b.add(without, b.mul(factor(7), sub(with, without)))
	} else {
		eps = in("noise", s.Frames, s.Out)
	}
	x0 := b.Op("Div", []onnx.Value{sub(x, b.mul(factor(0), eps)), factor(1)})
	v := b.add(b.mul(factor(2), x), b.mul(factor(3), x0))
	v = b.add(v, b.mul(factor(4), eps))
	v = sub(v, b.mul(factor(5), b.mul(factor(6), sub(x0, last))))
	sample := b.Op("Concat", []onnx.Value{v, rest}, onnx.Int("axis", 1))
	frames := s.Frames
	if s.Guidance {
		sample, frames = b.Op("Concat", []onnx.Value{sample, sample}, onnx.Int("axis", 0)), 2*frames
	}
	b.Output("next", v, tensor.F32, s.Frames, s.Out, s.Latent, s.Latent)
	b.Output("x0", x0, tensor.F32, s.Frames, s.Out, s.Latent, s.Latent)
	b.Output("sample", sample, tensor.F32, frames, s.In, s.Latent, s.Latent)
	return b.Graph
}

// StepFactors is the size of Step's input "factors".
const StepFactors = 8
