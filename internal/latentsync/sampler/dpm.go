package sampler

import (
	"fmt"
	"math"

	"github.com/lipstream/lipstream/internal/fault"
)

// Spacing is how a sampler spreads its timesteps (diffusers'
// timestep_spacing).
type Spacing int

// The spacings; examples for 10 steps.
const (
	Linspace Spacing = iota // 999, 899, … 100: what diffusers takes for the original's configuration
	Leading                 // 901, 811, … 91: never at full noise
	Trailing                // 999, 899, … 99: for few steps
)

// dpmSolver is DPM-Solver++ of second order, multistep (2M), midpoint; its last
// step is of first order and ends at clean.
type dpmSolver struct {
	schedule
	levels []level // of each step, and clean at the end
	x0     []float32
	last   int // step that x0 is of; −1: none
}

// level is a noise level in the sampler's variables: latents are
// alpha·clean + sigma·noise, lambda is log(alpha/sigma).
type level struct{ alpha, sigma, lambda float32 }

// NewDPMSolver returns diffusers' DPMSolverMultistepScheduler in the configuration
// that it takes over from the original's scheduler. It needs fewer steps than
// DDIM for the same quality and remembers the step before. From 1 to 999 steps
// with Linspace, 998 with Leading, 1000 with Trailing, otherwise a fault.Usage:
// with more, timesteps would repeat or not exist.
func NewDPMSolver(steps int, spacing Spacing) (Sampler, error) {
	var most int
	var at func(k int) int
	switch spacing {
	case Linspace:
		most = trainSteps - 1
		at = func(k int) int {
			return int(math.RoundToEven(float64(steps-k) * (float64(trainSteps-1) / float64(steps))))
		}
	case Leading:
		most = trainSteps - 2
		at = func(k int) int { return (steps-k)*(trainSteps/(steps+1)) + 1 } // steps+1, unlike DDIM
	case Trailing:
		most = trainSteps
		at = func(k int) int {
			return int(math.RoundToEven(trainSteps-float64(k)*(trainSteps/float64(steps)))) - 1
		}
	default:
		return nil, fault.Usage.New("set the spacing of denoising steps "+fmt.Sprint(int(spacing)), "there is no such spacing")
	}
	s, err := newSchedule(steps, most, at)
	if err != nil {
		return nil, err
	}
	d := &dpmSolver{schedule: s, last: -1}
	alphas := alphasCumprod()
	for _, t := range s.timesteps {
		d.levels = append(d.levels, levelOf(sqrt((1-alphas[t])/alphas[t])))
	}
	d.levels = append(d.levels, levelOf(0))
	return d, nil
}

// levelOf takes the noise relative to the signal.
func levelOf(sigma float32) level {
	alpha := 1 / sqrt(float32(sigma*sigma)+1)
	l := level{alpha: alpha, sigma: sigma * alpha}
	l.lambda = log(l.alpha) - log(l.sigma) // +Inf when clean
	return l
}

func (d *dpmSolver) Reset() { d.last = -1 }

// Factors starts a new sequence at k = 0, or at any step after Reset.
func (d *dpmSolver) Factors(k int) (Factors, error) {
	if err := d.checkStep(k); err != nil {
		return Factors{}, err
	}
	if k == 0 {
		d.last = -1
	}
	first := d.last < 0
	if !first && k != d.last+1 {
		return Factors{}, misuse(fmt.Sprintf("step %d after step %d", k, d.last))
	}
	d.last = k

	now, next := d.levels[k], d.levels[k+1]
	h := next.lambda - now.lambda
	pull := next.alpha * (exp(-h) - 1)
	f := Factors{Noise: now.sigma, Signal: now.alpha, Keep: next.sigma / now.sigma, Clean: -pull}
	if !first && k < len(d.timesteps)-1 { // else of first order
		f.Slope = 1 / ((now.lambda - d.levels[k-1].lambda) / h)
		f.Half = 0.5 * pull
	}
	return f, nil
}

func (d *dpmSolver) Step(k int, x, eps []float32) error {
	if err := checkLength(x, eps); err != nil {
		return err
	}
	if k > 0 && d.last >= 0 && len(x) != len(d.x0) {
		return misuse(fmt.Sprintf("%d latents after %d", len(x), len(d.x0)))
	}
	f, err := d.Factors(k)
	if err != nil {
		return err
	}
	if len(d.x0) != len(x) {
		d.x0 = make([]float32, len(x))
	}
	f.step(x, eps, d.x0)
	return nil
}
