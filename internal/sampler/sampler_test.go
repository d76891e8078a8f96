package sampler

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/golden"
)

type run struct {
	Timesteps  []int
	Spacing    string      `json:"timestep_spacing"`
	Sigmas     []float32   // DPM-Solver
	SingleStep [][]float32 `json:"single_step_x_prev"` // DDIM
	Trajectory [][]float32
}

// goldenRuns is what diffusers 0.32.2 computed (testdata/ddim.json).
type goldenRuns struct {
	Alphas []float32 `json:"alphas_cumprod_f32"`
	Fixed  struct{ X, Eps []float32 }
	Runs   map[string]run
	DPM    struct{ Runs map[string]run } `json:"dpmsolver"`
}

func load(t *testing.T) (g goldenRuns) {
	t.Helper()
	data, err := os.ReadFile("testdata/ddim.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Runs) != 5 || len(g.DPM.Runs) != 5 {
		t.Fatalf("%d and %d runs", len(g.Runs), len(g.DPM.Runs))
	}
	return g
}

// relative is the greatest difference, relative to the greatest value.
func relative(t *testing.T, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	var d, top float64
	for i := range got {
		d = max(d, math.Abs(float64(got[i])-float64(want[i])))
		top = max(top, math.Abs(float64(want[i])))
	}
	return d / top
}

func TestAlphasAreTheOriginals(t *testing.T) {
	if g := load(t); !slices.Equal(alphasCumprod(), g.Alphas) {
		t.Error("differ")
	}
}

// walk follows a golden trajectory, with its rule for the noise.
func walk(t *testing.T, s Sampler, start []float32, want [][]float32) (worst float64) {
	t.Helper()
	x, eps := slices.Clone(start), make([]float32, len(start))
	for k, step := range s.Timesteps() {
		for i := range x {
			eps[i] = float32(0.1*x[i]) + float32(0.001*float32(step))
		}
		s.Step(k, x, eps)
		worst = max(worst, relative(t, x, want[k]))
	}
	return worst
}

func TestDDIMAgreesWithOriginal(t *testing.T) {
	g := load(t)
	for name, want := range g.Runs {
		var steps int
		_, _ = fmt.Sscan(name, &steps)
		s, err := NewDDIM(steps)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Timesteps(), want.Timesteps) {
			t.Errorf("%s: timesteps %v", name, s.Timesteps())
		}
		var single float64
		for k, prev := range want.SingleStep {
			x := slices.Clone(g.Fixed.X)
			s.Step(k, x, g.Fixed.Eps)
			single = max(single, relative(t, x, prev))
		}
		all := walk(t, s, g.Fixed.X, want.Trajectory)
		golden.Check(t, golden.Measurement{Module: "DDIM", Case: name + " steps, each from the same place", Measure: "max rel", Value: single, Limit: 1e-6})
		golden.Check(t, golden.Measurement{Module: "DDIM", Case: name + " steps, the whole walk", Measure: "max rel", Value: all, Limit: 1e-6})
	}
}

// spacing is how diffusers spreads the timesteps of DPM-Solver++. The engine uses
// linspace; the others show that the steps between them are right as well.
type spacing struct {
	most int // steps
	at   func(k, steps int) int
}

var spacings = map[string]spacing{
	"linspace": {},
	"leading":  {998, func(k, steps int) int { return (steps-k)*(1000/(steps+1)) + 1 }}, // steps+1, unlike DDIM
	"trailing": {1000, func(k, steps int) int { return int(math.RoundToEven(1000-float64(k)*(1000/float64(steps)))) - 1 }},
}

func (p spacing) solver(steps int) (Sampler, error) {
	if p.at == nil {
		return NewDPMSolver(steps)
	}
	s, err := newSchedule(steps, p.most, func(k int) int { return p.at(k, steps) })
	return newDPMSolver(s), err
}

func TestDPMSolverAgreesWithDiffusers(t *testing.T) {
	g := load(t)
	for name, want := range g.DPM.Runs {
		s, err := spacings[want.Spacing].solver(len(want.Timesteps))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Timesteps(), want.Timesteps) {
			t.Errorf("%s: timesteps %v", name, s.Timesteps())
		}
		for k, sigma := range want.Sigmas {
			l := s.(*dpmSolver).levels[k]
			if got := l.sigma / l.alpha; math.Abs(float64(got-sigma)) > 3e-7*float64(sigma) {
				t.Errorf("%s: level %d is %v, want %v", name, k, got, sigma)
			}
		}
		all := walk(t, s, g.Fixed.X, want.Trajectory)
		again := walk(t, s, g.Fixed.X, want.Trajectory)
		golden.Check(t, golden.Measurement{Module: "DPM-Solver++ 2M", Case: name + " steps, the whole walk", Measure: "max rel", Value: all, Limit: 1e-6})
		if again != all {
			t.Errorf("%s differs by %g, and again by %g", name, all, again)
		}
	}
}

// For every number of steps: timesteps that exist, descending, and finite
// latents; what has no room is refused.
func TestAllNumbersOfSteps(t *testing.T) {
	for name, tt := range map[string]struct {
		most int
		make func(int) (Sampler, error)
	}{
		"DDIM":     {999, NewDDIM},
		"linspace": {999, spacings["linspace"].solver},
		"leading":  {998, spacings["leading"].solver},
		"trailing": {1000, spacings["trailing"].solver},
	} {
		for _, n := range []int{-1, 0, tt.most + 1, 1 << 40} {
			if _, err := tt.make(n); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
				t.Errorf("%s, %d steps: %v", name, n, err)
			}
		}
		for n := 1; n <= tt.most; n++ {
			s, err := tt.make(n)
			if err != nil {
				t.Fatalf("%s, %d steps: %v", name, n, err)
			}
			steps := s.Timesteps()
			if len(steps) != n || steps[0] > 999 || steps[n-1] < 0 {
				t.Fatalf("%s, %d steps: %v", name, n, steps)
			}
			for k := 1; k < n; k++ {
				if steps[k] >= steps[k-1] {
					t.Fatalf("%s, %d steps: %d after %d", name, n, steps[k], steps[k-1])
				}
			}
			x := []float32{0.5, -1}
			for k := range steps {
				s.Step(k, x, []float32{0.1, -0.3})
			}
			if v := float64(x[0] + x[1]); math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%s, %d steps: %v", name, n, x)
			}
		}
	}
}

// Diffusers' rules, worked out for few and for odd numbers of steps.
func TestTimesteps(t *testing.T) {
	for _, tt := range []struct {
		steps   int
		spacing string
		want    []int
	}{
		{1, "linspace", []int{999}},
		{2, "linspace", []int{999, 500}}, // 499.5 to the even number
		{3, "linspace", []int{999, 666, 333}},
		{7, "linspace", []int{999, 856, 714, 571, 428, 285, 143}},
		{1, "leading", []int{501}},
		{3, "leading", []int{751, 501, 251}},
		{6, "leading", []int{853, 711, 569, 427, 285, 143}},
		{1, "trailing", []int{999}},
		{3, "trailing", []int{999, 666, 332}},
		{4, "trailing", []int{999, 749, 499, 249}},
		{6, "trailing", []int{999, 832, 666, 499, 332, 166}},
		{16, "trailing", []int{999, 937, 874, 811, 749, 687, 624, 561, 499, 437, 374, 311, 249, 187, 124, 61}},
	} {
		s, err := spacings[tt.spacing].solver(tt.steps)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Timesteps(), tt.want) {
			t.Errorf("%d steps, spacing %s: %v, want %v", tt.steps, tt.spacing, s.Timesteps(), tt.want)
		}
	}
	s, err := NewDDIM(7)
	if err != nil || !slices.Equal(s.Timesteps(), []int{853, 711, 569, 427, 285, 143, 1}) {
		t.Errorf("DDIM: %v, %v", s.Timesteps(), err)
	}
}

// Latents that are the same signal at every noise level come out clean: when
// eps is the noise that is really in x, the walk of DPM-Solver ends at x0.
func TestDPMSolverFindsTheSignal(t *testing.T) {
	for _, steps := range []int{1, 2, 5, 20} {
		s, err := spacings["trailing"].solver(steps)
		if err != nil {
			t.Fatal(err)
		}
		const clean, noise = 0.7, -1.3
		l := s.(*dpmSolver).levels
		x := []float32{l[0].alpha*clean + l[0].sigma*noise}
		for k := range steps {
			s.Step(k, x, []float32{noise})
			if want := l[k+1].alpha*clean + l[k+1].sigma*noise; math.Abs(float64(x[0]-want)) > 1e-5 {
				t.Fatalf("%d steps: %v after step %d, want %v", steps, x[0], k, want)
			}
		}
	}
}
