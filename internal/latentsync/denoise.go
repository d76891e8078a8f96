package latentsync

import (
	"context"
	"fmt"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// denoiser turns noise into the latents of a window of frames. It holds one
// UNet, compiled for one number of frames.
type denoiser struct {
	o       Options
	weights *checkpoint.File
	config  network.UNetConfig
	latent  int // side of the latents
	tokens  int // audio tokens a frame
	noise   []float32
	chain   *network.Chain
	frames  int // that chain was compiled for
}

// load compiles the UNet for windows of the given length, in place of what was
// there.
func (d *denoiser) load(ctx context.Context, frames int) error {
	if d.chain != nil && d.frames == frames {
		return nil
	}
	if err := d.Close(); err != nil {
		return err
	}
	shape := network.UNetShape{Batch: 1, Frames: frames, Latent: d.latent, Tokens: d.tokens}
	u, err := network.NewUNet(d.config, shape, d.weights, network.For(d.o.Backend.Name(), d.o.Precision.DType()))
	if err != nil {
		return fault.Wrap(fault.Input, "build network from", d.weights.Path(), err, "")
	}
	options := backend.Options{Device: d.o.Device, Precision: d.o.Precision, Threads: d.o.Threads}
	d.chain, err = network.Load(ctx, d.o.Backend, u.Graphs, options, func(*onnx.Graph) { d.weights.Release() })
	d.frames = frames
	return err
}

// Close releases the network.
func (d *denoiser) Close() error {
	if d.chain == nil {
		return nil
	}
	err := d.chain.Close()
	d.chain = nil
	return err
}

// condition is what a frame gives to its window besides noise.
type condition struct {
	latents []float32 // [8, latent, latent]: masked picture, then reference
	tokens  []float32 // [tokens, AudioDim]
}

// window denoises the frames of one window together and gives each frame's
// latents, [4, latent, latent] (spec sections 6.2 to 6.5). first is for
// progress only.
func (d *denoiser) window(ctx context.Context, first int64, mask []float32, frames []condition) ([][]float32, error) {
	if err := d.load(ctx, len(frames)); err != nil {
		return nil, err
	}
	n, c := d.latent*d.latent, d.config.Out
	sample := tensor.New(tensor.F32, len(frames), d.config.In, d.latent, d.latent)
	audio := tensor.New(tensor.F32, len(frames), d.tokens, d.config.AudioDim)
	x := make([]float32, 0, len(frames)*c*n)
	for i, f := range frames {
		x = append(x, d.noise...) // every frame begins with the same (6.1)
		at := sample.F32()[(i*d.config.In+c)*n:]
		copy(at, mask)
		copy(at[n:], f.latents)
		copy(audio.F32()[i*len(f.tokens):], f.tokens)
	}
	if err := d.walk(ctx, first, x, sample, audio); err != nil {
		return nil, err
	}
	out := make([][]float32, len(frames))
	for i := range out {
		out[i] = x[i*c*n : (i+1)*c*n : (i+1)*c*n]
		if err := finite(out[i]); err != nil {
			return nil, broken("denoise", fmt.Sprintf("frame %d", first+int64(i)), err)
		}
	}
	return out, nil
}

// walk takes x, [frames, Out, latent, latent], from noise to latents. sample,
// [frames, In, latent, latent], holds what goes into the UNet beside it.
func (d *denoiser) walk(ctx context.Context, first int64, x []float32, sample, audio *tensor.Tensor) error {
	walk, err := d.o.sampler()
	if err != nil {
		return err
	}
	frames := sample.Shape[0]
	in, out := sample.Len()/frames, len(x)/frames
	branches := []*branch{{audio: audio}}
	if d.o.Guidance > 1 {
		branches = append(branches, &branch{audio: tensor.New(tensor.F32, audio.Shape...)})
	}
	timesteps := walk.Timesteps()
	for k, t := range timesteps {
		for i := range frames {
			copy(sample.F32()[i*in:], x[i*out:(i+1)*out])
		}
		full := d.o.DeepCache <= 1 || k%d.o.DeepCache == 0
		for _, b := range branches {
			if err := d.predict(ctx, b, sample, t, full); err != nil {
				return err
			}
		}
		eps := branches[0].noise
		if len(branches) > 1 {
			g := float32(d.o.Guidance)
			for i, u := range branches[1].noise {
				eps[i] = u + g*(eps[i]-u)
			}
		}
		if err := walk.Step(k, x, eps); err != nil {
			return err
		}
		if d.o.Progress != nil {
			d.o.Progress(first, k+1, len(timesteps))
		}
	}
	return nil
}

// branch is one half of classifier-free guidance.
type branch struct {
	audio *tensor.Tensor
	deep  *tensor.Tensor // of the last full pass, for DeepCache
	noise []float32
}

// predict runs the UNet. A pass that is not full takes the deep layers' result
// from the last one that was.
func (d *denoiser) predict(ctx context.Context, b *branch, sample *tensor.Tensor, timestep int, full bool) error {
	flow := network.Flow{
		"sample": sample, "audio": b.audio,
		"time": network.TimeEmbedding(float64(timestep), d.config.Channels[0]),
	}
	last := d.chain.Len() - 1
	if full {
		if err := d.chain.Run(ctx, flow, 0, last); err != nil {
			return err
		}
		b.deep = nil
		if d.o.DeepCache > 1 {
			b.deep = flow[network.Deep]
		}
	} else {
		if err := d.chain.Run(ctx, flow, 0, 1); err != nil {
			return err
		}
		flow[network.Deep] = b.deep
	}
	if err := d.chain.Run(ctx, flow, last, last+1); err != nil {
		return err
	}
	b.noise = flow["noise"].F32()
	return nil
}

// broken tells of numbers that a network must not give.
func broken(op, subject string, err error) error {
	return fault.Wrap(fault.Internal, op, subject, err, "look for damaged weights: lipstream models check --deep; or use --precision f32")
}

// finite refuses what cannot become a picture.
func finite(x []float32) error {
	if i := tensor.NotFinite(x); i >= 0 {
		return fmt.Errorf("the network gives %v", x[i])
	}
	return nil
}
