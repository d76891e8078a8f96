package latentsync

import (
	"context"
	"fmt"
	"time"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// denoiser turns noise into the latents of windows of frames.
type denoiser struct {
	o      Options
	net    *model
	config network.UNetConfig
	latent int // side of the latents
	tokens int // audio tokens a frame
	noise  []float32
}

// model is the UNet, for windows of so many frames.
func (d *denoiser) model() model {
	return model{name: workUNet, parts: true, batch: 1, file: d.o.Files.unet, precision: planned,
		build: func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error) {
			u, err := network.NewUNet(d.config, network.UNetShape{Batch: d.net.batch, Frames: frames, Latent: d.latent, Tokens: d.tokens}, w, t)
			if err != nil {
				return nil, err
			}
			return u.Graphs, nil
		}}
}

// condition is what the UNet gets of a frame besides noise.
type condition struct {
	latents []float32 // [8, latent, latent]: masked picture, then reference
	tokens  []float32 // [tokens, AudioDim]
}

// task is a window to denoise.
type task struct {
	first  int64 // number of its first frame, for messages only
	frames []condition
}

// windows denoises some windows in flight together, all of as many frames, and
// gives each of their frames' latents, [4, latent, latent] (spec sections 6.2 to
// 6.5). Whether windows are in flight alone or together makes no difference to
// the result.
func (d *denoiser) windows(ctx context.Context, mask []float32, list []task) ([][][]float32, error) {
	size := len(list[0].frames)
	work := list
	if d.o.Batched {
		work = []task{d.together(list)}
	}
	if err := d.net.ready(ctx, size); err != nil {
		return nil, err
	}
	began := time.Now()
	tracks := make([]*track, len(work))
	for i, w := range work {
		t, err := d.track(mask, w.frames)
		if err != nil {
			return nil, err
		}
		tracks[i] = t
	}
	if err := d.walk(ctx, list[0].first, tracks); err != nil {
		return nil, err
	}
	d.net.networks.note(workWindow, int64(len(list)), time.Since(began), 0)
	out := make([][][]float32, len(list))
	for i := range list {
		x, n := tracks[min(i, len(tracks)-1)].x, len(d.noise)
		if len(tracks) == 1 {
			x = x[i*size*n:]
		}
		for k := range size {
			latents := x[k*n : (k+1)*n : (k+1)*n]
			if err := finite(latents); err != nil {
				return nil, broken("denoise", fmt.Sprintf("frame %d", list[i].first+int64(k)), err)
			}
			out[i] = append(out[i], latents)
		}
	}
	return out, nil
}

// together makes one call of the UNet of the windows in flight. Where there are
// fewer than the plan has, the last one fills up: another network would have to
// be compiled for them.
func (d *denoiser) together(list []task) task {
	d.net.batch = d.net.networks.plan().Windows
	all := task{first: list[0].first}
	for i := range d.net.batch {
		all.frames = append(all.frames, list[min(i, len(list)-1)].frames...)
	}
	return all
}

// track is a window on its way from noise to latents.
type track struct {
	x        []float32      // [frames, Out, latent, latent]
	sample   *tensor.Tensor // [frames, In, latent, latent]: what goes into the UNet, x first
	branches []*branch
	sampler  sampler.Sampler
}

// branch is one half of classifier-free guidance.
type branch struct {
	sample *tensor.Tensor
	audio  *tensor.Tensor // [frames, tokens, AudioDim]
	deep   *tensor.Tensor // of the last full pass, for DeepCache
	noise  []float32
}

// track begins a window.
func (d *denoiser) track(mask []float32, frames []condition) (*track, error) {
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
	return d.begin(x, sample, audio)
}

func (d *denoiser) begin(x []float32, sample, audio *tensor.Tensor) (*track, error) {
	s, err := d.o.sampler()
	t := &track{x: x, sample: sample, sampler: s, branches: []*branch{{sample: sample, audio: audio}}}
	if d.o.Guidance > 1 {
		t.branches = append(t.branches, &branch{sample: sample, audio: tensor.New(tensor.F32, audio.Shape...)})
	}
	return t, err
}

// walk takes windows from noise to latents, step by step together.
func (d *denoiser) walk(ctx context.Context, first int64, tracks []*track) error {
	timesteps := tracks[0].sampler.Timesteps()
	var branches []*branch
	for _, t := range tracks {
		branches = append(branches, t.branches...)
	}
	for k, timestep := range timesteps {
		began := time.Now()
		for _, t := range tracks {
			t.enter()
		}
		full := d.o.DeepCache <= 1 || k%d.o.DeepCache == 0
		if err := d.predict(ctx, timestep, full, branches...); err != nil {
			return err
		}
		for _, t := range tracks {
			if err := t.step(k, float32(d.o.Guidance)); err != nil {
				return err
			}
		}
		d.net.networks.note(workStep, int64(len(tracks)), time.Since(began), 0)
		if d.o.Progress != nil {
			d.o.Progress(first, k+1, len(timesteps))
		}
	}
	return nil
}

// enter puts x into what goes into the UNet.
func (t *track) enter() {
	frames := t.sample.Shape[0]
	in, out := t.sample.Len()/frames, len(t.x)/frames
	for i := range frames {
		copy(t.sample.F32()[i*in:], t.x[i*out:(i+1)*out])
	}
}

// step takes x one step on by what the UNet has predicted.
func (t *track) step(k int, guidance float32) error {
	eps := t.branches[0].noise
	if len(t.branches) > 1 {
		for i, u := range t.branches[1].noise {
			eps[i] = u + guidance*(eps[i]-u)
		}
	}
	return t.sampler.Step(k, t.x, eps)
}

// predict runs the UNet for some branches. A pass that is not full takes the
// deep layers' result from the last one that was.
func (d *denoiser) predict(ctx context.Context, timestep int, full bool, branches ...*branch) error {
	time, last := network.TimeEmbedding(float64(timestep), d.config.Channels[0]), d.net.chain.Len()-1
	flows := make([]network.Flow, len(branches))
	for i, b := range branches {
		flows[i] = network.Flow{"sample": b.sample, "audio": b.audio, "time": time}
	}
	deep := last
	if !full {
		deep = 1
	}
	if err := d.net.run(ctx, 0, deep, flows...); err != nil {
		return err
	}
	for i, b := range branches {
		switch {
		case !full:
			flows[i][network.Deep] = b.deep
		case d.o.DeepCache > 1:
			b.deep = flows[i][network.Deep]
		}
	}
	if err := d.net.run(ctx, last, last+1, flows...); err != nil {
		return err
	}
	for i, b := range branches {
		b.noise = flows[i]["noise"].F32()
	}
	return nil
}

// broken returns the error for output of a network that is not finite.
func broken(op, subject string, err error) error {
	return fault.Internal.Wrap(op+" "+subject, err, "run lipstream models check --deep to look for damaged weights, or set `precision` to f32")
}

// finite refuses what cannot become a picture.
func finite(x []float32) error {
	if i := tensor.NotFinite(x); i >= 0 {
		return fmt.Errorf("the network gives %v", x[i])
	}
	return nil
}
