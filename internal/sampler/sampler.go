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
	// predicted from them at Timesteps()[k]. Steps are made in order, and step 0
	// begins a new sequence.
	Step(k int, x, eps []float32)
	// Factors returns the numbers of step k, for those who compute it elsewhere.
	Factors(k int) Factors
}

// Factors are the numbers of one step. From latents x and predicted noise eps it computes
//
//	x0 = (x − Noise·eps) / Signal
//	x  = Keep·x + Clean·x0 + Eps·eps − Half·(Slope·(x0 − last))
//
// where last is the x0 of the step before. Half is 0 in step 0.
type Factors struct{ Noise, Signal, Keep, Clean, Eps, Half, Slope float32 }

// step computes a step in place, and writes x0 to last, which may be nil if Half is
// always 0.
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

// alphasCumprod returns ᾱ, the share of the signal's power at each noise level
// (docs/spec/latentsync.md, section 6.4), with the bits that torch computes: betas are
// float32, and the product is float64 but stored as float32.
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

// sqrt, log and exp round to float32 after each step, as torch does.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
func log(x float32) float32  { return float32(math.Log(float64(x))) }
func exp(x float32) float32  { return float32(math.Exp(float64(x))) }

// schedule holds the timesteps of a sampler.
type schedule []int

// Timesteps implements Sampler.
func (s schedule) Timesteps() []int { return s }

// newSchedule returns the timesteps at(0) to at(steps-1). It returns an error of kind
// Usage unless steps is from 1 to most.
func newSchedule(steps, most int, at func(k int) int) (schedule, error) {
	if steps < 1 || steps > most {
		return nil, fault.Field("steps", fmt.Sprint(steps), fmt.Sprintf("is not from 1 to %d", most), "set `steps` to a value from 10 to 50")
	}
	s := make(schedule, steps)
	for k := range s {
		s[k] = at(k)
	}
	return s, nil
}
