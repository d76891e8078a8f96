package latentsync

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// cost holds the time and memory that the parts of the work take on this machine.
type cost struct {
	full  time.Duration // a denoising step of a window, both halves of guidance
	cheap time.Duration // a step with DeepCache's shortcut; 0 without DeepCache
	frame time.Duration // encoding a frame twice and decoding it
	voice time.Duration // a window of Whisper, 30 s of voice

	unet, vae, whisper int64 // peak memory, bytes
}

// measure tries one step of each kind, on empty images and silence.
func (e *Engine) measure(ctx context.Context) (c cost, err error) {
	d, p, w := e.denoiser, e.painter, e.features
	size := e.networks.plan().Frames
	frames := size * d.net.batch
	var t *denoising
	defer func() {
		if t != nil {
			err = errors.Join(err, t.close())
		}
	}()
	begin := func() error {
		if err := d.net.ready(ctx, size); err != nil {
			return err
		}
		t, err = d.beginWith(ctx, tensor.New(tensor.F32, frames, d.config.In, d.latent, d.latent), tensor.New(tensor.F32, frames, d.tokens, d.config.AudioDim))
		if err == nil {
			t.branches = t.branches[:1] // both halves of guidance take the same time
		}
		return err
	}
	step := func(full bool) error {
		noise, err := d.predict(ctx, 1, full, t)
		for _, v := range slices.Concat(noise...) {
			err = errors.Join(err, v.Close())
		}
		return err
	}
	full := func() error { return step(true) }
	cheap := func() error {
		if e.o.DeepCache <= 1 {
			return nil
		}
		return step(false)
	}
	image := func() error {
		h := &held{crop: frame.NewRGB(e.o.Resolution, e.o.Resolution)}
		if err := p.encode(ctx, []*held{h}); err != nil {
			return err
		}
		_, err := p.decode(ctx, [][]float32{make([]float32, p.config.Latent*d.latent*d.latent)})
		return err
	}
	listen := func() error {
		return w.net.whole(ctx, network.Flow{"mel": tensor.New(tensor.F32, 1, w.config.Mels, 2*w.config.Context)})
	}
	var first time.Duration // not used: the first run of a graph also sets up its memory
	for _, trial := range []struct {
		took *time.Duration
		run  func() error
	}{
		{&first, begin},
		{&first, full}, {&c.full, full}, {&c.cheap, cheap},
		{&first, image}, {&c.frame, image},
		{&first, func() error { return w.net.ready(ctx, 1) }}, {&c.voice, listen},
	} {
		began := time.Now()
		if err := trial.run(); err != nil {
			return c, err
		}
		*trial.took = time.Since(began)
	}
	if e.o.DeepCache <= 1 {
		c.cheap = 0
	}
	c.full, c.cheap = c.full/time.Duration(d.net.batch), c.cheap/time.Duration(d.net.batch)
	if e.o.Guidance > 1 && d.halves() == 1 {
		c.full, c.cheap = 2*c.full, 2*c.cheap
	}
	for _, part := range e.Report().Work {
		switch part.Name {
		case workUNet:
			c.unet = part.Memory
		case workWhisper:
			c.whisper = part.Memory
		case workEncoder, workDecoder:
			c.vae += part.Memory
		}
	}
	return c, nil
}

// Estimate implements lip.Engine.
func (e *Engine) Estimate(ctx context.Context, frames int64, voice float64) (lip.Estimate, error) {
	o := e.o
	var c cost
	err := e.try(func() (err error) {
		c, err = e.measure(ctx)
		return err
	})
	if err != nil {
		return lip.Estimate{}, fault.KindOf(err).Wrap("try a step of "+e.Name(), err)
	}
	plan := e.networks.plan() // measuring may have changed it
	size := plan.Frames
	windows := o.windowsOf(frames, size)
	interval := max(o.DeepCache, 1)
	full := int64((o.Steps + interval - 1) / interval)
	hop := float64(e.features.hop()) / audio.FeatureRate // seconds from one window of Whisper to the next
	took := time.Duration(windows*(full*int64(c.full)+(int64(o.Steps)-full)*int64(c.cheap)) + frames*int64(c.frame) + int64(1+voice/hop)*int64(c.voice))
	seconds := func(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
	estimate := lip.Estimate{
		Backend: o.Backend.Name(), Precision: plan.Precision, Resolution: o.Resolution,
		Sampler: o.Sampler, Steps: o.Steps, FullSteps: int(full), Guidance: o.Guidance,
		Overlap: o.overlap(size), Windows: windows,
		Plan: &plan, Needs: e.needs(plan), Budget: o.Budget, BudgetFrom: o.BudgetFrom,
		Stages: []lip.EstimateStage{
			{Name: "UNet", Memory: c.unet, Seconds: seconds(c.full), Per: "full step of a window"},
			{Name: "Whisper", Memory: c.whisper, Seconds: seconds(c.voice), Per: "30 s of voice"},
			{Name: "VAE", Memory: c.vae, Seconds: seconds(c.frame), Per: "frame, encoded twice and decoded"},
		},
		Seconds: seconds(took),
	}
	if c.cheap > 0 {
		estimate.Stages = append(estimate.Stages, lip.EstimateStage{Name: "UNet with DeepCache", Seconds: seconds(c.cheap), Per: "step of a window"})
	}
	return estimate, nil
}

// windowsOf returns how many windows of size frames a shot of so many frames takes.
func (o Options) windowsOf(frames int64, size int) int64 {
	if frames <= int64(size) {
		return min(frames, 1)
	}
	step := int64(size - o.overlap(size))
	return 1 + (frames-int64(size)+step-1)/step
}
