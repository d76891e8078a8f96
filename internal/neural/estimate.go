package neural

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

// timed returns how long f takes.
func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// second returns how long the second call of f takes: the first run of a network also
// sets up its memory.
func second(f func() error) (time.Duration, error) {
	if err := f(); err != nil {
		return 0, err
	}
	return timed(f)
}

// rounded returns a duration in seconds for people.
func rounded(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// estimate implements generator, on empty images and silence.
func (d *denoiser) estimate(ctx context.Context, e *lip.Estimate) (window time.Duration, err error) {
	size, batch := d.net.networks.plan().Frames, d.net.batch
	frames := size * batch
	if err := d.net.ready(ctx, size); err != nil {
		return 0, err
	}
	t, err := d.beginWith(ctx, tensor.New(tensor.F32, frames, d.unet.In, d.latent, d.latent), tensor.New(tensor.F32, frames, d.whisper.Tokens(), d.unet.AudioDim))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	t.branches = t.branches[:1] // the other half of guidance takes hardly less time
	step := func(k int) error {
		noise, err := d.predict(ctx, k, 1, t)
		for _, v := range slices.Concat(noise...) {
			err = errors.Join(err, v.Close())
		}
		return err
	}
	full, err := second(func() error { return step(0) })
	if err != nil {
		return 0, err
	}
	cheap := full
	interval := max(d.o.DeepCache, 1)
	if interval > 1 {
		if cheap, err = timed(func() error { return step(1) }); err != nil {
			return 0, err
		}
	}
	// How often each is done, apart from what is found out during the job.
	var fulls, cheaps int
	compared := false
	for k := range d.o.Steps {
		passes := 1
		if d.o.compares(k, compared) && d.o.halves() == 1 {
			passes, compared = 2, true
		}
		if k%interval == 0 {
			e.FullSteps++
			fulls += passes
		} else {
			cheaps += passes
		}
	}
	halves := time.Duration(d.o.branches() / d.o.halves())
	full, cheap = full/time.Duration(batch), cheap/time.Duration(batch)
	e.Stages = append(e.Stages, lip.EstimateStage{Name: "UNet", Memory: d.net.networks.most(workUNet), Seconds: rounded(full * halves), Per: "full step of a window"})
	if interval > 1 {
		e.Stages = append(e.Stages, lip.EstimateStage{Name: "UNet with DeepCache", Seconds: rounded(cheap * halves), Per: "step of a window"})
	}
	e.Sampler, e.Steps, e.Guidance = d.o.Sampler, d.o.Steps, d.o.Guidance
	return time.Duration(fulls)*full + time.Duration(cheaps)*cheap, nil
}

// measure tries each kind of work once, and returns how long a window, a frame and a
// window of Whisper take.
func (e *Engine) measure(ctx context.Context, to *lip.Estimate) (window, image, voice time.Duration, err error) {
	p, w, s := e.painter, e.features, e.networks
	if window, err = e.generator.estimate(ctx, to); err != nil {
		return 0, 0, 0, err
	}
	image, err = second(func() error {
		p.encoded = nil // the same image is not encoded twice
		h := &held{crop: frame.NewRGB(e.o.Resolution, e.o.Resolution)}
		if err := p.encode(ctx, []*held{h}); err != nil {
			return err
		}
		_, err := p.decode(ctx, [][]float32{make([]float32, p.size())})
		return err
	})
	if err != nil {
		return 0, 0, 0, err
	}
	if err := w.net.ready(ctx, 1); err != nil {
		return 0, 0, 0, err
	}
	voice, err = timed(func() error {
		return w.net.whole(ctx, network.Flow{"mel": tensor.New(tensor.F32, 1, w.config.Mels, 2*w.config.Context)})
	})
	to.Stages = slices.Insert(to.Stages, 1,
		lip.EstimateStage{Name: "Whisper", Memory: s.most(workWhisper), Seconds: rounded(voice), Per: "30 s of voice"},
		lip.EstimateStage{Name: "VAE", Memory: s.most(workEncoder) + s.most(workDecoder), Seconds: rounded(image), Per: "frame, encoded twice and decoded"})
	return window, image, voice, err
}

// Estimate implements lip.Engine.
func (e *Engine) Estimate(ctx context.Context, frames int64, voice float64) (lip.Estimate, error) {
	o := e.o
	var estimate lip.Estimate
	var window, image, listening time.Duration
	err := e.try(func() (err error) {
		estimate = lip.Estimate{}
		window, image, listening, err = e.measure(ctx, &estimate)
		return err
	})
	if err != nil {
		return lip.Estimate{}, fault.KindOf(err).Wrap("try a step of "+e.Name(), err)
	}
	plan := e.networks.plan() // measuring may have changed it
	estimate.Backend, estimate.Precision, estimate.Resolution = o.Backend.Name(), plan.Precision, o.Resolution
	estimate.Overlap, estimate.Windows = o.overlap(plan.Frames), o.windowsOf(frames, plan.Frames)
	estimate.Plan, estimate.Needs, estimate.Budget, estimate.BudgetFrom = &plan, e.needs(plan), o.Budget, o.BudgetFrom
	hop := float64(e.features.hop()) / audio.FeatureRate // seconds from one window of Whisper to the next
	estimate.Seconds = rounded(time.Duration(estimate.Windows)*window + time.Duration(frames)*image + time.Duration(1+voice/hop)*listening)
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
