package sampler

// ddim is the sampler of Song et al. without added noise (η = 0), as the original
// configures it (docs/spec/latentsync.md, section 6.4).
type ddim struct {
	schedule
	scalars []ddimScalars // of each step
}

// ddimScalars are the factors of one step: x0 = (x − noise·eps)/signal, then
// x = nextSignal·x0 + nextNoise·eps.
type ddimScalars struct{ signal, noise, nextSignal, nextNoise float32 }

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
		d.scalars = append(d.scalars, ddimScalars{sqrt(a), sqrt(1 - a), sqrt(next), sqrt(1 - next)})
	}
	return d, err
}

// Step implements Sampler.
func (d *ddim) Step(k int, x, eps []float32) {
	c := d.scalars[k]
	for i, e := range eps {
		// The conversions keep the compiler from fusing what torch rounds.
		x0 := (x[i] - float32(c.noise*e)) / c.signal
		x[i] = float32(c.nextSignal*x0) + float32(c.nextNoise*e)
	}
}
