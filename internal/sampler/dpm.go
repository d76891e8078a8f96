package sampler

import "math"

// dpmSolver is the multistep DPM-Solver++ of second order (2M, midpoint). Its last step
// is of first order and ends at clean.
type dpmSolver struct {
	schedule
	levels []level   // of each step, and clean at the end
	x0     []float32 // the clean latents that the step before predicted
}

// level is a noise level in the sampler's variables: latents are
// alpha·clean + sigma·noise, lambda is log(alpha/sigma).
type level struct{ alpha, sigma, lambda float32 }

// NewDPMSolver returns diffusers' DPMSolverMultistepScheduler with the configuration that
// it derives from the original's scheduler: its timesteps have linear spacing, from 999
// down to 1000/steps. It needs fewer steps than DDIM for the same quality. It returns an
// error of kind Usage unless steps is from 1 to 999.
func NewDPMSolver(steps int) (Sampler, error) {
	s, err := newSchedule(steps, trainSteps-1, func(k int) int {
		return int(math.RoundToEven(float64(steps-k) * (float64(trainSteps-1) / float64(steps))))
	})
	return newDPMSolver(s), err
}

func newDPMSolver(s schedule) *dpmSolver {
	d := &dpmSolver{schedule: s}
	alphas := alphasCumprod()
	for _, t := range s {
		d.levels = append(d.levels, levelOf(sqrt((1-alphas[t])/alphas[t])))
	}
	d.levels = append(d.levels, levelOf(0))
	return d
}

// levelOf returns the level with the given ratio of noise to signal.
func levelOf(sigma float32) level {
	alpha := 1 / sqrt(float32(sigma*sigma)+1)
	l := level{alpha: alpha, sigma: sigma * alpha}
	l.lambda = log(l.alpha) - log(l.sigma) // +Inf when clean
	return l
}

// Factors implements Sampler.
func (d *dpmSolver) Factors(k int) Factors {
	now, next := d.levels[k], d.levels[k+1]
	h := next.lambda - now.lambda
	pull := next.alpha * (exp(-h) - 1)
	f := Factors{Noise: now.sigma, Signal: now.alpha, Keep: next.sigma / now.sigma, Clean: -pull}
	if k > 0 && k < len(d.schedule)-1 { // else the step is of first order
		f.Slope = 1 / ((now.lambda - d.levels[k-1].lambda) / h)
		f.Half = 0.5 * pull
	}
	return f
}

// Step implements Sampler.
func (d *dpmSolver) Step(k int, x, eps []float32) {
	if k == 0 {
		d.x0 = make([]float32, len(x))
	}
	d.Factors(k).step(x, eps, d.x0)
}
