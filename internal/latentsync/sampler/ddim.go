package sampler

// ddim is Song's sampler without added noise (η = 0), as the original has it
// (docs/spec/latentsync.md 6.4 DDIM).
type ddim struct {
	schedule
	scalars []ddimScalars // of each step
}

// ddimScalars are the factors of one step: x0 = (x − noise·eps)/signal, then
// x = nextSignal·x0 + nextNoise·eps.
type ddimScalars struct{ signal, noise, nextSignal, nextNoise float32 }

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
		d.scalars = append(d.scalars, ddimScalars{sqrt(a), sqrt(1 - a), sqrt(next), sqrt(1 - next)})
	}
	return d, nil
}

func (d *ddim) Reset() {}

func (d *ddim) Step(k int, x, eps []float32) error {
	if err := d.checkStep(k, x, eps); err != nil {
		return err
	}
	c := d.scalars[k]
	for i, e := range eps {
		// The conversions keep the compiler from fusing what torch rounds.
		x0 := (x[i] - float32(c.noise*e)) / c.signal
		x[i] = float32(c.nextSignal*x0) + float32(c.nextNoise*e)
	}
	return nil
}
