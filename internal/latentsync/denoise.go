package latentsync

import (
	"context"
	"fmt"
	"slices"
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
	latent int       // side of the latents
	tokens int       // audio tokens per frame
	noise  []float32 // initial latents of a frame
}

// model returns the UNet, for windows of a number of frames.
func (d *denoiser) model() model {
	return model{name: workUNet, streamable: true, batch: 1, file: func(f Files) string { return f.UNet }, precision: planned,
		build: func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error) {
			u, err := network.NewUNet(d.config, network.UNetShape{Batch: d.net.batch, Frames: frames, Latent: d.latent, Tokens: d.tokens}, w, t)
			if err != nil {
				return nil, err
			}
			return u.Graphs, nil
		}}
}

// condition is the input of the UNet for a frame, apart from noise.
type condition struct {
	latents []float32 // [8, latent, latent]: masked image, then reference
	tokens  []float32 // [tokens, AudioDim]
}

// input is a window to denoise.
type input struct {
	first  int64 // number of its first frame, for messages only
	frames []condition
}

// windows denoises windows in flight together. All have the same number of frames. It
// returns the latents of each frame of each window, [4, latent, latent]
// (docs/spec/latentsync.md, sections 6.1 to 6.5). The result does not depend on which
// windows are in flight together.
func (d *denoiser) windows(ctx context.Context, mask []float32, list []input) ([][][]float32, error) {
	size := len(list[0].frames)
	work := list
	if d.o.Batched {
		work = []input{d.together(list)}
	}
	if err := d.net.ready(ctx, size); err != nil {
		return nil, err
	}
	began := time.Now()
	var all []*denoising
	for _, w := range work {
		t, err := d.begin(mask, w.frames)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	if err := d.run(ctx, list[0].first, all); err != nil {
		return nil, err
	}
	d.net.networks.note(workWindow, int64(len(list)), time.Since(began), 0)
	var latents [][]float32 // of all frames
	for _, t := range all {
		latents = slices.AppendSeq(latents, slices.Chunk(t.x, len(d.noise)))
	}
	out := make([][][]float32, len(list))
	for i := range list {
		out[i] = latents[i*size : (i+1)*size]
		for k, x := range out[i] {
			if err := finite(x); err != nil {
				return nil, broken("denoise", fmt.Sprintf("frame %d", list[i].first+int64(k)), err)
			}
		}
	}
	return out, nil
}

// together joins windows for one run of the UNet. If there are fewer than the plan has in
// flight, it repeats the last one: another network would have to be compiled for them.
func (d *denoiser) together(list []input) input {
	d.net.batch = d.net.networks.plan().Windows
	all := input{first: list[0].first}
	for i := range d.net.batch {
		all.frames = append(all.frames, list[min(i, len(list)-1)].frames...)
	}
	return all
}

// denoising is a window, or windows joined for one run of the UNet, on the way from noise
// to latents.
type denoising struct {
	x        []float32      // [frames, Out, latent, latent]
	sample   *tensor.Tensor // [frames, In, latent, latent]: the UNet's input, which begins with x
	branches []*branch
	sampler  sampler.Sampler
}

// branch is one half of classifier-free guidance.
type branch struct {
	sample *tensor.Tensor
	audio  *tensor.Tensor // [frames, tokens, AudioDim]
	deep   *tensor.Tensor // from the last full pass, for DeepCache
	noise  []float32
}

// begin returns the denoising of frames before the first step.
func (d *denoiser) begin(mask []float32, frames []condition) (*denoising, error) {
	n, c := d.latent*d.latent, d.config.Out
	sample := tensor.New(tensor.F32, len(frames), d.config.In, d.latent, d.latent)
	audio := tensor.New(tensor.F32, len(frames), d.tokens, d.config.AudioDim)
	for i, f := range frames {
		at := sample.F32()[(i*d.config.In+c)*n:]
		copy(at, mask)
		copy(at[n:], f.latents)
		copy(audio.F32()[i*len(f.tokens):], f.tokens)
	}
	return d.beginWith(slices.Repeat(d.noise, len(frames)), sample, audio) // every frame has the same noise
}

func (d *denoiser) beginWith(x []float32, sample, audio *tensor.Tensor) (*denoising, error) {
	s, err := d.o.sampler()
	t := &denoising{x: x, sample: sample, sampler: s, branches: []*branch{{sample: sample, audio: audio}}}
	if d.o.Guidance > 1 {
		t.branches = append(t.branches, &branch{sample: sample, audio: tensor.New(tensor.F32, audio.Shape...)})
	}
	return t, err
}

// run makes all steps of all windows.
func (d *denoiser) run(ctx context.Context, first int64, all []*denoising) error {
	timesteps := all[0].sampler.Timesteps()
	var branches []*branch
	for _, t := range all {
		branches = append(branches, t.branches...)
	}
	for k, timestep := range timesteps {
		began := time.Now()
		for _, t := range all {
			t.prepare()
		}
		full := d.o.DeepCache <= 1 || k%d.o.DeepCache == 0
		if err := d.predict(ctx, timestep, full, branches...); err != nil {
			return err
		}
		for _, t := range all {
			t.step(k, float32(d.o.Guidance))
		}
		d.net.networks.note(workStep, int64(len(all)), time.Since(began), 0)
		if d.o.Progress != nil {
			d.o.Progress(first, k+1, len(timesteps))
		}
	}
	return nil
}

// prepare copies x to the UNet's input.
func (t *denoising) prepare() {
	frames := t.sample.Shape[0]
	in, out := t.sample.Len()/frames, len(t.x)/frames
	for i := range frames {
		copy(t.sample.F32()[i*in:], t.x[i*out:(i+1)*out])
	}
}

// step advances x by step k, with the noise that the UNet has predicted.
func (t *denoising) step(k int, guidance float32) {
	eps := t.branches[0].noise
	if len(t.branches) > 1 {
		for i, u := range t.branches[1].noise {
			eps[i] = u + guidance*(eps[i]-u)
		}
	}
	t.sampler.Step(k, t.x, eps)
}

// predict runs the UNet for branches. A pass that is not full takes the result of the
// deep layers from the last full one.
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

// finite returns an error if a value is infinite or not a number.
func finite(x []float32) error {
	if i := tensor.NotFinite(x); i >= 0 {
		return fmt.Errorf("the network returned %v", x[i])
	}
	return nil
}
