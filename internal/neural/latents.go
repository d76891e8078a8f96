package neural

import (
	"context"
	"errors"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/sampler"
	"github.com/lipstream/lipstream/internal/tensor"
)

// latents are those of a denoising, from noise to the last step.
type latents interface {
	// timesteps returns the UNet's timestep of each step.
	timesteps() []int
	// sample returns the UNet's input. It is valid until the next step.
	sample() backend.Value
	// step computes step k from the noise that the UNet has predicted for each branch. It
	// reports whether the predictions agree so well that guidance may end.
	step(ctx context.Context, k int, noise []backend.Value) (agree bool, err error)
	// result returns the latents, [frames, Out, latent, latent].
	result(ctx context.Context) ([]float32, error)
	close() error
}

// hostLatents are in the memory of the process, and stepped in Go.
type hostLatents struct {
	x       []float32
	in      *tensor.Tensor // [frames, In, latent, latent]: x, then the rest
	sampler sampler.Sampler
	o       Options
	voice   []float32 // the difference that the voice made last, for Options.GuidanceEvery
}

// newHostLatents takes over the UNet's first input.
func newHostLatents(s sampler.Sampler, o Options, c network.UNetConfig, in *tensor.Tensor) *hostLatents {
	x, _ := split(in, c.Out)
	return &hostLatents{x: x.F32(), in: in, sampler: s, o: o}
}

// split separates the first channels of (frames, channels, height, width) from the rest.
func split(in *tensor.Tensor, channels int) (first, rest *tensor.Tensor) {
	frames, all, h, w := in.Shape[0], in.Shape[1], in.Shape[2], in.Shape[3]
	first, rest = tensor.New(in.DType, frames, channels, h, w), tensor.New(in.DType, frames, all-channels, h, w)
	for i := range frames {
		from := in.F32()[i*all*h*w:]
		copy(first.F32()[i*channels*h*w:(i+1)*channels*h*w], from)
		copy(rest.F32()[i*(all-channels)*h*w:(i+1)*(all-channels)*h*w], from[channels*h*w:])
	}
	return first, rest
}

func (l *hostLatents) sample() backend.Value {
	frames := l.in.Shape[0]
	in, out := l.in.Len()/frames, len(l.x)/frames
	for i := range frames {
		copy(l.in.F32()[i*in:], l.x[i*out:(i+1)*out])
	}
	return backend.InHost(l.in)
}

func (l *hostLatents) step(ctx context.Context, k int, noise []backend.Value) (agree bool, err error) {
	with, err := noise[0].Host(ctx)
	if err != nil {
		return false, err
	}
	eps, scale := with.F32(), float32(l.o.Guidance)
	switch {
	case len(noise) > 1:
		without, err := noise[1].Host(ctx)
		if err != nil {
			return false, err
		}
		agree = l.o.GuidanceThreshold > 0 && difference(without.F32(), eps) < l.o.GuidanceThreshold
		l.voice = l.voice[:0]
		for i, u := range without.F32() {
			if d := eps[i] - u; l.o.GuidanceEvery > 1 && !agree {
				l.voice = append(l.voice, d)
			}
			eps[i] = u + scale*(eps[i]-u)
		}
	case len(l.voice) > 0 && l.o.guides(k):
		for i, d := range l.voice {
			eps[i] += (scale - 1) * d
		}
	}
	l.sampler.Step(k, l.x, eps)
	return agree, nil
}

func (l *hostLatents) timesteps() []int { return l.sampler.Timesteps() }

func (l *hostLatents) result(context.Context) ([]float32, error) { return l.x, nil }
func (l *hostLatents) close() error                              { return nil }

// deviceLatents stay on the device, and are stepped there. Only the factors of a step go
// in, and only the last latents come out.
type deviceLatents struct {
	d               *denoiser
	sampler         sampler.Sampler
	x, x0, in, rest backend.Value
}

// stepModel is the network of the steps, for so many frames.
func (d *denoiser) stepModel() model {
	return model{name: workSampler, precision: exact, file: func(f Files) string { return f.UNet }, small: true,
		build: func(_ *checkpoint.File, frames int, _ network.Target) ([]*onnx.Graph, error) {
			return []*onnx.Graph{network.Step(network.StepShape{
				Frames: frames, Out: d.unet.Out, In: d.unet.In, Latent: d.latent, Guidance: d.o.halves() > 1,
			})}, nil
		}}
}

// onDevice returns a denoising whose latents stay on the device. Its one branch is both
// halves of guidance.
func (d *denoiser) onDevice(ctx context.Context, s sampler.Sampler, in, audio *tensor.Tensor) (*denoising, error) {
	if err := d.steps.ready(ctx, in.Shape[0]); err != nil {
		return nil, err
	}
	x, rest := split(in, d.unet.Out)
	if d.o.halves() > 1 {
		in = join(in, in)
	}
	l := &deviceLatents{d: d, sampler: s}
	t := &denoising{latents: l, branches: []*branch{{}}}
	var errs []error
	upload := func(v *tensor.Tensor) backend.Value {
		value, err := d.o.Backend.Upload(ctx, d.o.Device.ID, v)
		if err != nil {
			value = backend.InHost(v) // nothing to release
			errs = append(errs, err)
		}
		return value
	}
	l.x, l.x0, l.in, l.rest, t.branches[0].audio = upload(x), upload(tensor.New(tensor.F32, x.Shape...)), upload(in), upload(rest), upload(audio)
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (l *deviceLatents) timesteps() []int { return l.sampler.Timesteps() }

func (l *deviceLatents) sample() backend.Value { return l.in }

func (l *deviceLatents) step(ctx context.Context, k int, noise []backend.Value) (agree bool, err error) {
	f := l.sampler.Factors(k)
	factors := tensor.FromF32([]float32{f.Noise, f.Signal, f.Keep, f.Clean, f.Eps, f.Half, f.Slope, float32(l.d.o.Guidance)}, network.StepFactors)
	flow := network.NewDeviceFlow(map[string]backend.Value{
		"x": l.x, "last": l.x0, "rest": l.rest, "noise": noise[0], "factors": backend.InHost(factors),
	})
	end := k == len(l.sampler.Timesteps())-1
	err = l.d.steps.runOn(ctx, 0, 1, func(output string) bool { return !end || output != "next" }, flow)
	if err == nil {
		old := []backend.Value{l.x, l.x0, l.in}
		l.x, l.x0, l.in = flow.Take("next"), flow.Take("x0"), flow.Take("sample")
		for _, v := range old {
			err = errors.Join(err, v.Close())
		}
	}
	return false, errors.Join(err, flow.Close())
}

func (l *deviceLatents) result(ctx context.Context) ([]float32, error) {
	t, err := l.x.Host(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(t.F32()), nil
}

func (l *deviceLatents) close() error {
	return errors.Join(l.x.Close(), l.x0.Close(), l.in.Close(), l.rest.Close())
}
