package latentsync

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Cost is what the parts of the engine's work take on this machine.
type Cost struct {
	Full  time.Duration // a denoising step of a window, both halves of guidance
	Cheap time.Duration // a step with DeepCache's shortcut; 0 without DeepCache
	Frame time.Duration // encoding a frame twice and decoding it
	Voice time.Duration // a window of Whisper, 30 s of voice
	Hop   float64       // seconds of voice from one such window to the next

	UNet, VAE, Whisper int64 // peak memory, bytes
}

// Measure tries one step of each kind, on empty pictures and silence.
func (e *Engine) Measure(ctx context.Context) (Cost, error) {
	var c Cost
	d, p := e.denoiser, e.painter
	clock := func(to *time.Duration, f func() error) error {
		began := time.Now()
		err := f()
		*to = time.Since(began)
		return err
	}
	sample := tensor.New(tensor.F32, e.o.Window, d.config.In, d.latent, d.latent)
	b := &branch{audio: tensor.New(tensor.F32, e.o.Window, d.tokens, d.config.AudioDim)}
	step := func(full bool) func() error {
		return func() error { return d.predict(ctx, b, sample, 1, full) }
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
	if e.o.Guidance > 1 {
		c.Full, c.Cheap = 2*c.Full, 2*c.Cheap
	}
	r, side := e.o.Resolution, d.latent
	picture := func() error {
		for range 2 {
			if err := p.encoder.Run(ctx, network.Flow{"image": tensor.New(tensor.F32, 1, 3, r, r)}, 0, p.encoder.Len()); err != nil {
				return err
			}
		}
		_, err := p.decode(ctx, make([]float32, p.config.Latent*side*side))
		return err
	}
	if err := picture(); err != nil {
		return c, err
	}
	if err := clock(&c.Frame, picture); err != nil {
		return c, err
	}
	w := e.features
	if err := clock(&c.Voice, func() error {
		mel := tensor.New(tensor.F32, 1, w.config.Mels, 2*w.config.Context)
		return w.chain.Run(ctx, network.Flow{"mel": mel}, 0, w.chain.Len())
	}); err != nil {
		return c, err
	}
	c.Hop = float64(w.hop()) / audio.FeatureRate
	c.UNet, c.Whisper = d.chain.Memory().Peak, w.chain.Memory().Peak
	c.VAE = p.encoder.Memory().Peak + p.decoder.Memory().Peak
	return c, nil
}

// Windows is how many windows a shot of so many frames takes.
func (o Options) Windows(frames int64) int64 {
	if frames <= int64(o.Window) {
		return min(frames, 1)
	}
	step := int64(o.Window - o.Overlap)
	return 1 + (frames-int64(o.Window)+step-1)/step
}

// FullSteps is how many of the steps DeepCache leaves whole.
func (o Options) FullSteps() int {
	if o.DeepCache <= 1 {
		return o.Steps
	}
	return (o.Steps + o.DeepCache - 1) / o.DeepCache
}

// Options that the engine works with.
func (e *Engine) Options() Options { return e.o }

// Time is how long the engine will take for one shot of so many frames and so
// many seconds of voice.
func (c Cost) Time(o Options, frames int64, voice float64) time.Duration {
	full := int64(o.FullSteps())
	cheap := int64(o.Steps) - full
	return time.Duration(o.Windows(frames)*(full*int64(c.Full)+cheap*int64(c.Cheap)) + frames*int64(c.Frame) + int64(1+voice/c.Hop)*int64(c.Voice))
}
