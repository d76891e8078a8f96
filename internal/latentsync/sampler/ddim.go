package sampler

// ddim is Song's sampler without added noise (η = 0), as the original has it
// (docs/spec/latentsync.md 6.4 DDIM).
type ddim struct {
	schedule
	factors []Factors // of each step
}

// NewDDIM returns the original's sampler: steps with leading spacing, that is
// timesteps k·⌊1000/steps⌋+1 down to 1. It has no history. From 1 to 999 steps,
// otherwise a fault.Usage: the thousandth would have the timestep 1000, which
// does not exist.
func NewDDIM(steps int) (Sampler, error) {
	ratio := trainSteps / max(1, steps)
	s, err := newSchedule(steps, trainSteps-1, func(k int) int { return (steps-1-k)*ratio + 1 })
	if err != nil {
		return nil, err
	}
	d := &ddim{schedule: s}
	alphas := alphasCumprod()
	for _, t := range s.timesteps {
		a, next := alphas[t], alphas[max(0, t-ratio)] // the last step does not end at clean
		d.factors = append(d.factors, Factors{Signal: sqrt(a), Noise: sqrt(1 - a), Clean: sqrt(next), Eps: sqrt(1 - next)})
	}
	return d, nil
}

func (d *ddim) Reset() {}

func (d *ddim) Factors(k int) (Factors, error) {
	if err := d.checkStep(k); err != nil {
		return Factors{}, err
	}
	return d.factors[k], nil
}

func (d *ddim) Step(k int, x, eps []float32) error {
	f, err := d.Factors(k)
	if err == nil {
		err = checkLength(x, eps)
	}
	if err != nil {
		return err
	}
	f.step(x, eps, nil)
	return nil
}
