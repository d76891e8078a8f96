package sampler

// ddim is the sampler of Song et al. without added noise (η = 0), as the original
// configures it (docs/spec/latentsync.md, section 6.4).
type ddim struct {
	schedule
	factors []Factors // of each step
}

// NewDDIM returns the original's sampler, which has no history. Its timesteps have
// leading spacing: k·⌊1000/steps⌋+1, down to 1. It returns an error of kind Usage unless
// steps is from 1 to 999: with 1000, the first timestep would be 1000, which does not
// exist.
func NewDDIM(steps int) (Sampler, error) {
	ratio := trainSteps / max(1, steps)
	s, err := newSchedule(steps, trainSteps-1, func(k int) int { return (steps-1-k)*ratio + 1 })
	d := &ddim{schedule: s}
	alphas := alphasCumprod()
	for _, t := range s {
		a, next := alphas[t], alphas[max(0, t-ratio)] // the last step does not end at clean
		d.factors = append(d.factors, Factors{Signal: sqrt(a), Noise: sqrt(1 - a), Clean: sqrt(next), Eps: sqrt(1 - next)})
	}
	return d, err
}

// Factors implements Sampler.
func (d *ddim) Factors(k int) Factors { return d.factors[k] }

// Step implements Sampler.
func (d *ddim) Step(k int, x, eps []float32) { d.factors[k].step(x, eps, nil) }
