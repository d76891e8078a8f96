package latentsync

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/tensor"
)

// cost says what the parts of the work take on this machine.
type cost struct {
	Full  time.Duration // a denoising step of a window, both halves of guidance
	Cheap time.Duration // a step with DeepCache's shortcut; 0 without DeepCache
	Frame time.Duration // encoding a frame twice and decoding it
	Voice time.Duration // a window of Whisper, 30 s of voice
	Hop   float64       // seconds of voice from one such window to the next

	UNet, VAE, Whisper int64 // peak memory, bytes
}

// measure tries one step of each kind, on empty images and silence.
func (e *Engine) measure(ctx context.Context) (cost, error) {
	var c cost
	d, p := e.denoiser, e.painter
	clock := func(to *time.Duration, f func() error) error {
		began := time.Now()
		err := f()
		*to = time.Since(began)
		return err
	}
	size := e.networks.plan().Frames
	frames := size * d.net.batch
	if err := d.net.ready(ctx, size); err != nil {
		return c, err
	}
	t, err := d.begin(ctx, tensor.New(tensor.F32, frames, d.config.In, d.latent, d.latent), tensor.New(tensor.F32, frames, d.tokens, d.config.AudioDim))
	if err != nil {
		return c, err
	}
	defer func() { _ = t.close() }() // of memory of the device
	t.branches = t.branches[:1]      // the halves of guidance take the same time
	step := func(full bool) func() error {
		return func() error {
			noise, err := d.predict(ctx, 1, full, t)
			for _, v := range slices.Concat(noise...) {
				err = errors.Join(err, v.Close())
			}
			return err
		}
	}
	// The first run of a graph also sets up its memory.
	if err := step(true)(); err != nil {
		return c, err
	}
	if err := clock(&c.Full, step(true)); err != nil {
		return c, err
	}
	if e.o.DeepCache > 1 {
		if err := clock(&c.Cheap, step(false)); err != nil {
			return c, err
		}
	}
	c.Full, c.Cheap = c.Full/time.Duration(d.net.batch), c.Cheap/time.Duration(d.net.batch)
	if e.o.Guidance > 1 && d.halves() == 1 {
		c.Full, c.Cheap = 2*c.Full, 2*c.Cheap
	}
	c.UNet = d.net.chain.Memory().Peak
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
	if err := clock(&c.Frame, picture); err != nil {
		return c, err
	}
	w := e.features
	if err := w.net.ready(ctx, 1); err != nil {
		return c, err
	}
	if err := clock(&c.Voice, func() error {
		mel := tensor.New(tensor.F32, 1, w.config.Mels, 2*w.config.Context)
		return w.net.whole(ctx, network.Flow{"mel": mel})
	}); err != nil {
		return c, err
	}
	c.Hop = float64(w.hop()) / audio.FeatureRate
	for _, part := range e.Report().Work {
		switch part.Name {
		case workWhisper:
			c.Whisper = part.Memory
		case workEncoder, workDecoder:
			c.VAE += part.Memory
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
	full := int64(o.fullSteps())
	took := time.Duration(windows*(full*int64(c.Full)+(int64(o.Steps)-full)*int64(c.Cheap)) + frames*int64(c.Frame) + int64(1+voice/c.Hop)*int64(c.Voice))
	seconds := func(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
	estimate := lip.Estimate{
		Backend: o.Backend.Name(), Precision: plan.Precision, Resolution: o.Resolution,
		Sampler: o.Sampler, Steps: o.Steps, FullSteps: int(full), Guidance: o.Guidance,
		Overlap: o.overlap(size), Windows: windows,
		Plan: &plan, Needs: e.needs(plan), Budget: o.Budget, BudgetFrom: o.BudgetFrom,
		Stages: []lip.EstimateStage{
			{Name: "UNet", Memory: c.UNet, Seconds: seconds(c.Full), Per: "full step of a window"},
			{Name: "Whisper", Memory: c.Whisper, Seconds: seconds(c.Voice), Per: "30 s of voice"},
			{Name: "VAE", Memory: c.VAE, Seconds: seconds(c.Frame), Per: "frame, encoded twice and decoded"},
		},
		Seconds: seconds(took),
	}
	if c.Cheap > 0 {
		estimate.Stages = append(estimate.Stages, lip.EstimateStage{Name: "UNet with DeepCache", Seconds: seconds(c.Cheap), Per: "step of a window"})
	}
	return estimate, nil
}

// windowsOf returns how many windows of a size a shot of so many frames takes.
func (o Options) windowsOf(frames int64, frameCount int) int64 {
	size := int64(frameCount)
	if frames <= size {
		return min(frames, 1)
	}
	step := size - int64(o.overlap(frameCount))
	return 1 + (frames-size+step-1)/step
}

// fullSteps returns how many of the steps DeepCache computes in full.
func (o Options) fullSteps() int {
	if o.DeepCache <= 1 {
		return o.Steps
	}
	return (o.Steps + o.DeepCache - 1) / o.DeepCache
}
