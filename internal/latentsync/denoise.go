package latentsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// denoiser turns noise into the latents of windows of frames.
type denoiser struct {
	o      Options
	net    *model
	steps  *model // what happens between two runs of the UNet, if the latents stay on the device
	config network.UNetConfig
	latent int // side of the latents
	tokens int // audio tokens a frame
	noise  []float32
}

// model is the UNet, for windows of so many frames.
func (d *denoiser) model() model {
	return model{name: workUNet, parts: true, batch: 1, file: d.o.Files.unet, precision: planned,
		build: func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error) {
			u, err := network.NewUNet(d.config, network.UNetShape{Batch: d.net.batch * d.halves(), Frames: frames, Latent: d.latent, Tokens: d.tokens}, w, t)
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
	tracks := make([]*track, 0, len(work))
	defer func() {
		for _, t := range tracks {
			_ = t.close() // of memory of the device, after a result or a first error
		}
	}()
	for _, w := range work {
		t, err := d.track(ctx, mask, w.frames)
		if err != nil {
			return nil, err
		}
		tracks = append(tracks, t)
	}
	if err := d.walk(ctx, list[0].first, tracks); err != nil {
		return nil, err
	}
	results := make([][]float32, len(tracks))
	for i, t := range tracks {
		var err error
		if results[i], err = t.result(ctx); err != nil {
			return nil, err
		}
	}
	d.net.networks.note(workWindow, int64(len(list)), time.Since(began), 0)
	out := make([][][]float32, len(list))
	for i := range list {
		x, n := results[min(i, len(results)-1)], len(d.noise)
		if len(results) == 1 {
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

// track is a window, or the windows of one call, on its way from noise to latents.
type track struct {
	latents
	branches []*branch
}

// branch is one half of classifier-free guidance, or both where they are one call.
type branch struct {
	audio backend.Value // [frames, tokens, AudioDim]
	deep  backend.Value // of the last full pass, for DeepCache
}

// close releases memory of the device.
func (t *track) close() error {
	errs := []error{t.latents.close()}
	for _, b := range t.branches {
		errs = append(errs, b.audio.Close())
		if b.deep != nil {
			errs = append(errs, b.deep.Close())
		}
	}
	return errors.Join(errs...)
}

// track begins a window.
func (d *denoiser) track(ctx context.Context, mask []float32, frames []condition) (*track, error) {
	n, c := d.latent*d.latent, d.config.Out
	sample := tensor.New(tensor.F32, len(frames), d.config.In, d.latent, d.latent)
	audio := tensor.New(tensor.F32, len(frames), d.tokens, d.config.AudioDim)
	for i, f := range frames {
		at := sample.F32()[i*d.config.In*n:]
		copy(at, d.noise) // every frame begins with the same (docs/spec/latentsync.md, section 6.1)
		copy(at[c*n:], mask)
		copy(at[(c+1)*n:], f.latents)
		copy(audio.F32()[i*len(f.tokens):], f.tokens)
	}
	return d.begin(ctx, sample, audio)
}

// halves is the number of halves of guidance in one call of the UNet. On a device on which
// latents stay it is 2, because such a device is faster with more at once.
func (d *denoiser) halves() int {
	if d.o.Resident && d.o.Guidance > 1 {
		return 2
	}
	return 1
}

// begin begins a window with the UNet's first input, x before the rest, and the audio.
func (d *denoiser) begin(ctx context.Context, sample, audio *tensor.Tensor) (*track, error) {
	s, err := d.o.sampler()
	if err != nil {
		return nil, err
	}
	silent := tensor.New(tensor.F32, audio.Shape...)
	if d.o.Resident {
		if d.o.Guidance > 1 {
			audio = join(audio, silent)
		}
		return d.onDevice(ctx, s, sample, audio)
	}
	t := &track{latents: newHostLatents(s, d.o.Guidance, d.config, sample), branches: []*branch{{audio: backend.InHost(audio)}}}
	if d.o.Guidance > 1 {
		t.branches = append(t.branches, &branch{audio: backend.InHost(silent)})
	}
	return t, nil
}

// join puts two tensors one after the other along the first dimension.
func join(a, b *tensor.Tensor) *tensor.Tensor {
	shape := slices.Clone(a.Shape)
	shape[0] += b.Shape[0]
	return &tensor.Tensor{DType: a.DType, Shape: shape, Data: slices.Concat(a.Data, b.Data)}
}

// walk takes windows from noise to latents, step by step together.
func (d *denoiser) walk(ctx context.Context, first int64, tracks []*track) error {
	timesteps, err := d.timesteps()
	if err != nil {
		return err
	}
	for k, timestep := range timesteps {
		began := time.Now()
		full := d.o.DeepCache <= 1 || k%d.o.DeepCache == 0
		noise, err := d.predict(ctx, timestep, full, tracks...)
		if err != nil {
			return err
		}
		for i, t := range tracks {
			err = errors.Join(err, t.step(ctx, k, noise[i]))
			for _, v := range noise[i] {
				err = errors.Join(err, v.Close())
			}
		}
		if err != nil {
			return err
		}
		d.net.networks.note(workStep, int64(len(tracks)), time.Since(began), 0)
		if d.o.Progress != nil {
			d.o.Progress(first, k+1, len(timesteps))
		}
	}
	return nil
}

// timesteps returns the timesteps of all steps.
func (d *denoiser) timesteps() ([]int, error) {
	s, err := d.o.sampler()
	if err != nil {
		return nil, err
	}
	return s.Timesteps(), nil
}

// predict runs the UNet for all branches of some windows, and returns the noise of each
// branch. A pass that is not full takes the deep layers' result from the last one that was.
func (d *denoiser) predict(ctx context.Context, timestep int, full bool, tracks ...*track) (noise [][]backend.Value, err error) {
	time, last := backend.InHost(network.TimeEmbedding(float64(timestep), d.config.Channels[0])), d.net.chain.Len()-1
	var flows []*network.DeviceFlow
	defer func() {
		for _, f := range flows {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, t := range tracks {
		sample := t.sample()
		for _, b := range t.branches {
			flows = append(flows, network.NewDeviceFlow(map[string]backend.Value{"sample": sample, "audio": b.audio, "time": time}))
		}
	}
	deep := last
	if !full {
		deep = 1
	}
	if err := d.net.runOn(ctx, 0, deep, nil, flows...); err != nil {
		return nil, err
	}
	at := 0
	for _, t := range tracks {
		for _, b := range t.branches {
			if full && d.o.DeepCache > 1 {
				if b.deep != nil {
					if err := b.deep.Close(); err != nil {
						return nil, err
					}
				}
				b.deep = flows[at].Take(network.Deep)
			}
			if d.o.DeepCache > 1 {
				flows[at].In[network.Deep] = b.deep
			}
			at++
		}
	}
	if err := d.net.runOn(ctx, last, last+1, d.stays, flows...); err != nil {
		return nil, err
	}
	at = 0
	for _, t := range tracks {
		var list []backend.Value
		for range t.branches {
			list = append(list, flows[at].Take("noise"))
			at++
		}
		noise = append(noise, list)
	}
	return noise, nil
}

// stays reports whether an output of the UNet stays on the device: all do if the latents
// do.
func (d *denoiser) stays(string) bool { return d.o.Resident }

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
