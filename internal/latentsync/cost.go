package latentsync

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/tensor"
)

// cost is what the parts of the engine's work take on this machine.
type cost struct {
	full  time.Duration // a denoising step of a window, both halves of guidance
	cheap time.Duration // a step with DeepCache's shortcut; 0 without DeepCache
	frame time.Duration // encoding a frame twice and decoding it
	voice time.Duration // a window of Whisper, 30 s of voice
	hop   float64       // seconds of voice from one such window to the next

	unet, vae, whisper int64 // peak memory, bytes
}

// measure tries one step of each kind, on empty pictures and silence.
func (e *Engine) measure(ctx context.Context) (cost, error) {
	var c cost
	d, p := e.denoiser, e.painter
	clock := func(to *time.Duration, f func() error) error {
		began := time.Now()
		err := f()
		*to = time.Since(began)
		return err
	}
	size := e.stock.plan().Frames
	frames := size * d.net.batch
	b := &branch{
		sample: tensor.New(tensor.F32, frames, d.config.In, d.latent, d.latent),
		audio:  tensor.New(tensor.F32, frames, d.tokens, d.config.AudioDim),
	}
	step := func(full bool) func() error {
		return func() error { return d.predict(ctx, 1, full, b) }
	}
	if err := d.net.ready(ctx, size); err != nil {
		return c, err
	}
	// The first run of a graph also sets up its memory.
	if err := step(true)(); err != nil {
		return c, err
	}
	if err := clock(&c.full, step(true)); err != nil {
		return c, err
	}
	if e.o.DeepCache > 1 {
		if err := clock(&c.cheap, step(false)); err != nil {
			return c, err
		}
	}
	c.full, c.cheap = c.full/time.Duration(d.net.batch), c.cheap/time.Duration(d.net.batch)
	if e.o.Guidance > 1 {
		c.full, c.cheap = 2*c.full, 2*c.cheap
	}
	c.unet = d.net.chain.Memory().Peak
	side := e.o.Resolution / p.config.Factor()
	picture := func() error {
		h := &held{crop: frame.NewRGB(e.o.Resolution, e.o.Resolution)}
		if err := p.encode(ctx, []*held{h}); err != nil {
			return err
		}
		_, err := p.decode(ctx, [][]float32{make([]float32, p.config.Latent*side*side)})
		return err
	}
	if err := picture(); err != nil {
		return c, err
	}
	if err := clock(&c.frame, picture); err != nil {
		return c, err
	}
	w := e.features
	if err := w.net.ready(ctx, 1); err != nil {
		return c, err
	}
	if err := clock(&c.voice, func() error {
		mel := tensor.New(tensor.F32, 1, w.config.Mels, 2*w.config.Context)
		return w.net.whole(ctx, network.Flow{"mel": mel})
	}); err != nil {
		return c, err
	}
	c.hop = float64(w.hop()) / audio.FeatureRate
	c.whisper = e.stock.took(workWhisper).Memory
	c.vae = e.stock.took(workEncoder).Memory + e.stock.took(workDecoder).Memory
	return c, nil
}

// windows returns how many windows of so many frames a shot takes.
func (o Options) windows(frames, size int64) int64 {
	if frames <= size {
		return min(frames, 1)
	}
	step := size - int64(o.overlap(int(size)))
	return 1 + (frames-size+step-1)/step
}

// fullSteps returns how many of the steps DeepCache leaves whole.
func (o Options) fullSteps() int {
	every := max(1, o.DeepCache)
	return (o.Steps + every - 1) / every
}

// Estimate implements lip.Engine.
func (e *Engine) Estimate(ctx context.Context, frames int64, voice float64) (lip.Estimate, error) {
	var c cost
	err := e.try(func() (err error) {
		c, err = e.measure(ctx)
		return err
	})
	if err != nil {
		return lip.Estimate{}, fault.KindOf(err).Wrap("try a step of "+e.Name(), err)
	}
	o, plan := e.o, e.stock.plan()
	windows, full := o.windows(frames, int64(plan.Frames)), o.fullSteps()
	took := time.Duration(windows)*(time.Duration(full)*c.full+time.Duration(o.Steps-full)*c.cheap) +
		time.Duration(frames)*c.frame + time.Duration(1+voice/c.hop)*c.voice
	seconds := func(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
	stages := []lip.EstimateStage{
		{Name: "UNet", Memory: c.unet, Seconds: seconds(c.full), Per: "full step of a window"},
		{Name: "Whisper", Memory: c.whisper, Seconds: seconds(c.voice), Per: "30 s of voice"},
		{Name: "VAE", Memory: c.vae, Seconds: seconds(c.frame), Per: "frame, encoded twice and decoded"},
	}
	if c.cheap > 0 {
		stages = append(stages, lip.EstimateStage{Name: "UNet with DeepCache", Seconds: seconds(c.cheap), Per: "step of a window"})
	}
	return lip.Estimate{
		Backend: o.Backend.Name(), Precision: plan.Precision, Resolution: o.Resolution,
		Sampler: o.Sampler, Steps: o.Steps, FullSteps: full, Guidance: o.Guidance, Overlap: o.overlap(plan.Frames), Windows: windows,
		Plan: &plan, Needs: e.needs(plan), Budget: o.Budget, BudgetFrom: o.BudgetFrom,
		Stages: stages, Seconds: seconds(took),
	}, nil
}
