package latentsync

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/frame"
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
	size := e.stock.plan.Frames
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
	if err := clock(&c.Full, step(true)); err != nil {
		return c, err
	}
	if e.o.DeepCache > 1 {
		if err := clock(&c.Cheap, step(false)); err != nil {
			return c, err
		}
	}
	c.Full, c.Cheap = c.Full/time.Duration(d.net.batch), c.Cheap/time.Duration(d.net.batch)
	if e.o.Guidance > 1 {
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
	for _, part := range e.Work() {
		switch part.Name {
		case workWhisper:
			c.Whisper = part.Memory
		case workEncoder, workDecoder:
			c.VAE += part.Memory
		}
	}
	return c, nil
}

// Windows is how many windows a shot of so many frames takes.
func (o Options) Windows(frames int64) int64 {
	size := int64(o.Plan.Frames)
	if frames <= size {
		return min(frames, 1)
	}
	step := size - int64(o.overlap(int(size)))
	return 1 + (frames-size+step-1)/step
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
