package face

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestHat(t *testing.T) {
	// The classic Savitzky-Golay weights of 7 samples, and of 5.
	for i, w := range hat(7, 3, 2) {
		near(t, "seven", w, []float64{-2, 3, 6, 7, 6, 3, -2}[i]/21, 1e-12)
	}
	for i, w := range hat(5, 2, 2) {
		near(t, "five", w, []float64{-3, 12, 17, 12, -3}[i]/35, 1e-12)
	}
	for i, w := range hat(7, 3, 1) {
		near(t, fmt.Sprint("mean ", i), w, 1.0/7, 1e-12)
	}
	// At the ends of a track a line must not change.
	for n := 1; n <= 7; n++ {
		for at := range n {
			for degree := range 3 {
				var v float64
				for i, w := range hat(n, at, degree) {
					x := 3.0
					if degree > 0 {
						x += 2 * float64(i)
					}
					v += w * x
				}
				want := 3.0
				if degree > 0 {
					want += 2 * float64(at)
				}
				near(t, fmt.Sprint(n, at, degree), v, want, 1e-9)
			}
		}
	}
}

// synthetic returns frames of the mean face, 200 pixels wide, with a mouth that
// opens by mouth(i) pixels, moved by (x(i), 0), and noise.
func synthetic(n int, noise float64, mouth, x func(int) float64) []*observation {
	rng := rand.New(rand.NewPCG(4, 4))
	out := make([]*observation, n)
	for k := range out {
		p := make([]Point, Points)
		for i := range p {
			c := Canonical[min(i, MeshPoints-1)]
			p[i] = Point{300 + 13*c.X + x(k) + noise*rng.NormFloat64(), 300 - 13*c.Y + noise*rng.NormFloat64(), -13 * c.Z}
		}
		for _, i := range []int{17, 14, 15, 16, 87, 317} {
			p[i].Y += mouth(k)
		}
		out[k] = newObservation(p, 1)
	}
	return out
}

func smoothAll(o []*observation) [][]Point {
	out := make([][]Point, len(o))
	for i := range o {
		lo, hi := max(i-reach, 0), min(i+reach, len(o)-1)
		out[i] = smooth(o[lo:hi+1], i-lo)
	}
	return out
}

// A mouth that opens five times a second keeps nine tenths of its movement, in phase,
// while the noise of the head is smoothed.
func TestSmoothingKeepsTheMouth(t *testing.T) {
	const n = 100
	mouth := func(i int) float64 { return 5 + 5*math.Sin(2*math.Pi*5*float64(i)/25+0.4) }
	still := func(int) float64 { return 0 }
	out := smoothAll(synthetic(n, 0.2, mouth, still))
	var in, res, cross float64
	for i := 3; i < n-3; i++ {
		a, b := mouth(i)-5, out[i][14].Y-out[i][13].Y
		b -= 5 + 13*(Canonical[13].Y-Canonical[14].Y)
		in += a * a
		res += b * b
		cross += a * b
	}
	if part := cross / in; part < 0.9 || part > 1.1 {
		t.Errorf("%.2f of the mouth's movement remains", part)
	}
	if cross/math.Sqrt(in*res) < 0.98 {
		t.Errorf("the mouth's movement has a correlation of %.3f", cross/math.Sqrt(in*res))
	}
}

// Smoothing does not change uniform motion, even at the ends of the track. It rounds a
// sudden stop by less than a twentieth of the step.
func TestSmoothingMotion(t *testing.T) {
	still := func(int) float64 { return 0 }
	line := func(i int) float64 { return 7 * float64(i) }
	for i, p := range smoothAll(synthetic(20, 0, still, line)) {
		near(t, fmt.Sprint("frame ", i), p[4].X, 300+13*Canonical[4].X+line(i), 1e-6)
	}
	shake := func(i int) float64 { return 12 * math.Sin(2*math.Pi*2*float64(i)/25) } // 2 Hz
	worst := 0.0
	for i, p := range smoothAll(synthetic(50, 0, still, shake)) {
		if i >= 3 && i < 47 {
			worst = math.Max(worst, math.Abs(p[4].X-(300+13*Canonical[4].X+shake(i))))
		}
	}
	t.Logf("a shaking head of 12 pixels at 2 Hz is off by at most %.2f", worst)
	if worst > 1 {
		t.Errorf("a shaking head is off by %.2f pixels", worst)
	}
}

// A jump within a track stays a jump.
func TestSmoothingStep(t *testing.T) {
	still := func(int) float64 { return 0 }
	step := func(i int) float64 { return 60 * float64(i/10) }
	for i, p := range smoothAll(synthetic(20, 0, still, step)) {
		near(t, fmt.Sprint("frame ", i), p[4].X, 300+13*Canonical[4].X+step(i), 2.5)
	}
}

func BenchmarkSmooth(b *testing.B) {
	still := func(int) float64 { return 0 }
	o := synthetic(7, 0.2, still, still)
	for b.Loop() {
		smooth(o, 3)
	}
}
