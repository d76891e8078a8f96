// Package sampler implements the arithmetic of denoising: samplers, which lead latents
// from noise to a clean image step by step, and reproducible noise to start from.
package sampler

import (
	"fmt"
	"math"

	"github.com/lipstream/lipstream/internal/fault"
)

// Sampler leads latents from noise to clean; diffusers calls it a scheduler. It may hold
// the history of one sequence of steps, so windows that are denoised at the same time
// need one each, unless their latents are stepped together. It is not safe for
// concurrent use.
type Sampler interface {
	// Timesteps returns the network's timestep of each step, 0..999, descending.
	// The caller must not change it.
	Timesteps() []int
	// Step advances the latents x in place; eps is the noise that the network
	// predicted from them at Timesteps()[k], of the same length. A step out of
	// order or another length is a fault.Internal.
	Step(k int, x, eps []float32) error
	// Factors returns the numbers of step k, for those who compute it elsewhere. The
	// first step after Reset, and step 0, have no history.
	Factors(k int) (Factors, error)
	// Reset forgets the history, before a new sequence of steps.
	Reset()
}

// Factors are the numbers of one step. From latents x and predicted noise eps it computes
//
//	x0 = (x − Noise·eps) / Signal
//	x  = Keep·x + Clean·x0 + Eps·eps − Half·(Slope·(x0 − last))
//
// where last is the x0 of the step before.
type Factors struct{ Noise, Signal, Keep, Clean, Eps, Half, Slope float32 }

// step computes a step in place and returns x0 in last, which may be nil if Half is 0.
func (f Factors) step(x, eps, last []float32) {
	for i, e := range eps {
		// The conversions keep the compiler from fusing what torch rounds.
		x0 := (x[i] - float32(f.Noise*e)) / f.Signal
		v := float32(f.Keep*x[i]) + float32(f.Clean*x0)
		if f.Eps != 0 {
			v += float32(f.Eps * e)
		}
		if f.Half != 0 {
			v -= float32(f.Half * float32(f.Slope*(x0-last[i])))
		}
		x[i] = v
		if last != nil {
			last[i] = x0
		}
	}
}

// trainSteps is the number of noise levels that the network was trained with.
const trainSteps = 1000

// alphasCumprod returns ᾱ, the part of the signal's power at each noise level
// (docs/spec/latentsync.md 6.4 DDIM), to the bit as torch computes it: betas are float32, the product
// runs in float64 and its values are stored as float32.
func alphasCumprod() []float32 {
	start, end := float32(math.Sqrt(0.00085)), float32(math.Sqrt(0.012))
	step := (end - start) / (trainSteps - 1)
	out := make([]float32, trainSteps)
	product := 1.0
	for i := range out {
		// torch.linspace counts from the nearer end and rounds once: the
		// products are exact in float64.
		root := float32(float64(start) + float64(step)*float64(i))
		if i >= trainSteps/2 {
			root = float32(float64(end) - float64(step)*float64(trainSteps-1-i))
		}
		product *= float64(1 - float32(root*root))
		out[i] = float32(product)
	}
	return out
}

// sqrt and the functions below are float32's of torch: rounded after each step.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
func log(x float32) float32  { return float32(math.Log(float64(x))) }
func exp(x float32) float32  { return float32(math.Exp(float64(x))) }

// schedule is the common part of the samplers.
type schedule struct {
	timesteps []int
}

func (s *schedule) Timesteps() []int { return s.timesteps }

// checkStep returns an error if step k does not exist.
func (s *schedule) checkStep(k int) error {
	if k < 0 || k >= len(s.timesteps) {
		return misuse(fmt.Sprintf("step %d of %d", k, len(s.timesteps)))
	}
	return nil
}

// checkLength returns an error if x and eps differ in length.
func checkLength(x, eps []float32) error {
	if len(x) != len(eps) {
		return misuse(fmt.Sprintf("%d latents but noise for %d", len(x), len(eps)))
	}
	return nil
}

func misuse(cause string) error { return fault.Internal.New("denoise", cause) }

// newSchedule returns the timesteps at(0) to at(steps−1). It returns an error unless
// steps is from 1 to most.
func newSchedule(steps, most int, at func(k int) int) (schedule, error) {
	if steps < 1 || steps > most {
		return schedule{}, fault.Field("steps", fmt.Sprint(steps), fmt.Sprintf("is not from 1 to %d", most), "set `steps` to 10 to 50")
	}
	t := make([]int, steps)
	for k := range t {
		t[k] = at(k)
	}
	return schedule{t}, nil
}
