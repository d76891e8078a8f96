package neural

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// denoiser turns noise into the latents of windows of frames.
type denoiser struct {
	configs
	o      Options
	net    *model
	steps  *model    // what happens between two runs of the UNet, if the latents stay on the device
	latent int       // side of the latents
	mask   []float32 // [latent, latent], 1 to keep, 0 to generate
	noise  []float32 // initial latents of a frame
}

// model returns the UNet, for windows of a number of frames.
func (d *denoiser) model() model {
	return model{name: workUNet, streamed: latentSync{}.streamed, batch: 1, file: func(f Files) string { return f.UNet }, precision: planned, stored: storedUNet,
		build: func(w *checkpoint.File, frames int, t network.Target) ([]*onnx.Graph, error) {
			return latentSync{}.graphs(d.configs, d.o, d.net.batch, frames, w, t)
		}}
}

// network implements generator.
func (d *denoiser) network(frames int) use { return use{d.net, frames} }

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
func (d *denoiser) windows(ctx context.Context, list []input) ([][][]float32, error) {
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
	defer func() {
		for _, t := range all {
			_ = t.close() // of memory of the device, after a result or a first error
		}
	}()
	for _, w := range work {
		t, err := d.begin(ctx, w.frames)
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
		x, err := t.result(ctx)
		if err != nil {
			return nil, err
		}
		latents = slices.AppendSeq(latents, slices.Chunk(x, len(d.noise)))
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
	latents
	branches []*branch
	agreed   bool // guidance has ended, see Options.GuidanceThreshold
	compared bool // a step has had both predictions, see Options.GuidanceEvery
}

// branch is one half of classifier-free guidance, or both if they are one run of the
// UNet.
type branch struct {
	audio backend.Value // [frames, tokens, AudioDim]
	hears backend.Value // how many frames hear it, see network.UNetShape
	deep  backend.Value // from the last full pass, for DeepCache
	at    int           // the step of that pass
	first []float32     // the first feature map of that pass, for Options.DeepCacheThreshold
}

// close releases memory of the device.
func (t *denoising) close() error {
	errs := []error{t.latents.close()}
	for _, b := range t.branches {
		errs = append(errs, b.audio.Close())
		if b.deep != nil {
			errs = append(errs, b.deep.Close())
		}
	}
	return errors.Join(errs...)
}

// begin returns the denoising of frames before the first step.
func (d *denoiser) begin(ctx context.Context, frames []condition) (*denoising, error) {
	n, c := d.latent*d.latent, d.unet.Out
	sample := tensor.New(tensor.F32, len(frames), d.unet.In, d.latent, d.latent)
	audio := tensor.New(tensor.F32, len(frames), d.whisper.Tokens(), d.unet.AudioDim)
	for i, f := range frames {
		at := sample.F32()[i*d.unet.In*n:]
		copy(at, d.noise) // the same for every frame
		copy(at[c*n:], d.mask)
		copy(at[(c+1)*n:], f.latents)
		copy(audio.F32()[i*len(f.tokens):], f.tokens)
	}
	return d.beginWith(ctx, sample, audio)
}

// branches returns the number of halves of guidance.
func (o Options) branches() int {
	if o.Guidance > 1 {
		return 2
	}
	return 1
}

// halves returns the number of halves of guidance in one run of the UNet. It is 2 on a
// device where latents stay, because such a device is faster with more at once.
func (o Options) halves() int {
	if o.resident() {
		return o.branches()
	}
	return 1
}

// hears reports whether the UNet has network.UNetShape.Hears, which makes the unconditional half
// of guidance cheaper if it is a run of its own. It has only been tried on CPUs.
func (o Options) hears() bool { return o.branches() > o.halves() && o.Device.ID == "cpu" }

// beginWith returns a denoising with the UNet's first input, which begins with the
// latents, and the audio.
func (d *denoiser) beginWith(ctx context.Context, sample, audio *tensor.Tensor) (*denoising, error) {
	s, err := d.o.sampler()
	if err != nil {
		return nil, err
	}
	silent := tensor.New(tensor.F32, audio.Shape...)
	if d.o.resident() {
		if d.o.Guidance > 1 {
			audio = join(audio, silent)
		}
		return d.onDevice(ctx, s, sample, audio)
	}
	t := &denoising{latents: newHostLatents(s, d.o, d.unet, sample)}
	t.branches = []*branch{{audio: backend.InHost(audio), hears: count(audio.Shape[0])}}
	if d.o.Guidance > 1 {
		t.branches = append(t.branches, &branch{audio: backend.InHost(silent), hears: count(0)})
	}
	return t, nil
}

// count returns n as a tensor.
func count(n int) backend.Value {
	t := tensor.New(tensor.I64, 1)
	binary.NativeEndian.PutUint64(t.Data, uint64(n))
	return backend.InHost(t)
}

// join joins two tensors along the first dimension.
func join(a, b *tensor.Tensor) *tensor.Tensor {
	shape := slices.Clone(a.Shape)
	shape[0] += b.Shape[0]
	return &tensor.Tensor{DType: a.DType, Shape: shape, Data: slices.Concat(a.Data, b.Data)}
}

// run makes all steps of all windows.
func (d *denoiser) run(ctx context.Context, first int64, all []*denoising) error {
	timesteps := all[0].timesteps()
	for k, timestep := range timesteps {
		began := time.Now()
		noise, err := d.predict(ctx, k, timestep, all...)
		if err != nil {
			return err
		}
		for i, t := range all {
			agree, stepErr := t.step(ctx, k, noise[i])
			t.agreed, t.compared = t.agreed || agree, t.compared || len(noise[i]) > 1
			err = errors.Join(err, stepErr)
			for _, v := range noise[i] {
				err = errors.Join(err, v.Close())
			}
		}
		if err != nil {
			return err
		}
		d.net.networks.note(workStep, int64(len(all)), time.Since(began), 0)
		if d.o.Progress != nil {
			d.o.Progress(first, k+1, len(timesteps))
		}
	}
	return nil
}

// pass is one pass of the UNet, for a branch.
type pass struct {
	*branch
	flow *network.DeviceFlow
	full bool
}

// predict runs the UNet for step k, and returns the noise that it predicts for each branch
// of each window, or for the first branch only if the step has no guidance. The first graph
// hears nothing, so it runs once for both branches.
func (d *denoiser) predict(ctx context.Context, k, timestep int, all ...*denoising) (noise [][]backend.Value, err error) {
	time, last := backend.InHost(network.TimeEmbedding(float64(timestep), d.unet.Channels[0])), d.net.chain.Len()-1
	var begun []*network.DeviceFlow
	for _, t := range all {
		begun = append(begun, network.NewDeviceFlow(map[string]backend.Value{"sample": t.sample(), "time": time}))
	}
	var passes []pass
	defer func() {
		for _, f := range slices.Concat(flows(passes), begun) {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := d.net.runOn(ctx, 0, 1, nil, begun...); err != nil {
		return nil, err
	}
	var counts []int // of passes of each window
	for i, t := range all {
		branches := t.branches
		if len(branches) > 1 && (t.agreed || !d.o.compares(k, t.compared)) {
			branches = branches[:1]
		}
		for _, b := range branches {
			passes = append(passes, pass{b, begun[i].Fork(map[string]backend.Value{"audio": b.audio, "hears": b.hears}), true})
		}
		counts = append(counts, len(branches))
	}
	if err := d.deep(ctx, k, last, passes); err != nil {
		return nil, err
	}
	if err := d.net.runOn(ctx, last, last+1, d.stays, flows(passes)...); err != nil {
		return nil, err
	}
	rest := passes
	for _, n := range counts {
		var list []backend.Value
		for _, p := range rest[:n] {
			list = append(list, p.flow.Take("noise"))
		}
		noise, rest = append(noise, list), rest[n:]
	}
	return noise, nil
}

func flows(passes []pass) []*network.DeviceFlow {
	list := make([]*network.DeviceFlow, len(passes))
	for i, p := range passes {
		list[i] = p.flow
	}
	return list
}

// deep runs all graphs between the first and the last. A pass that is not full takes their
// result from the last full one (Ma et al., DeepCache, 2023).
func (d *denoiser) deep(ctx context.Context, k, last int, passes []pass) error {
	if d.o.DeepCache <= 1 {
		return d.net.runOn(ctx, 1, last, nil, flows(passes)...)
	}
	due := k%d.o.DeepCache == 0
	var full []pass
	for i := range passes {
		p := &passes[i]
		// A branch that was left out when the others were due is due now.
		if err := p.decide(ctx, due || k-p.at >= d.o.DeepCache, d.o.DeepCacheThreshold); err != nil {
			return err
		}
		if p.full {
			p.at = k
			full = append(full, *p)
		}
	}
	if len(full) > 0 {
		if err := d.net.runOn(ctx, 1, last, nil, flows(full)...); err != nil {
			return err
		}
	}
	for _, p := range passes {
		if err := p.keep(); err != nil {
			return err
		}
	}
	return nil
}

// decide sets whether the pass is full, after the first graph: if it is due, if the branch
// has no result of the deep layers yet, or if the first feature map has changed by more
// than the threshold since.
func (p *pass) decide(ctx context.Context, due bool, threshold float64) error {
	p.full = due || p.deep == nil
	if threshold == 0 {
		return nil
	}
	v, err := p.flow.Peek(network.First).Host(ctx)
	if err != nil {
		return err
	}
	now := v.ToF32().F32()
	if p.full = p.full || difference(now, p.first) > threshold; p.full {
		p.first = append(p.first[:0], now...)
	}
	return nil
}

// difference returns the root mean square of a-b relative to that of b.
func difference(a, b []float32) float64 {
	var change, size float64
	for i, v := range b {
		d := float64(a[i]) - float64(v)
		change += d * d
		size += float64(v) * float64(v)
	}
	return math.Sqrt(change / max(size, math.SmallestNonzeroFloat64))
}

// keep takes the result of the deep layers from a full pass, and gives it to every pass.
func (p pass) keep() error {
	if p.full {
		if p.deep != nil {
			if err := p.deep.Close(); err != nil {
				return err
			}
		}
		p.branch.deep = p.flow.Take(network.Deep)
	}
	p.flow.In[network.Deep] = p.deep
	return nil
}

// stays reports whether an output of the UNet stays on the device.
func (d *denoiser) stays(string) bool { return d.o.Device.Resident }

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
