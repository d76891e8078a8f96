package bench

import (
	"math"
	"testing"
)

var nan = math.NaN()

// near compares with room for rounding; NaN equals NaN.
func near(a, b float64) bool {
	return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-9
}

func TestPearson(t *testing.T) {
	tests := []struct {
		name string
		x, y []float64
		want float64
	}{
		{"same", []float64{1, 2, 3}, []float64{10, 20, 30}, 1},
		{"opposite", []float64{1, 2, 3}, []float64{3, 2, 1}, -1},
		{"known", []float64{1, 2, 3, 4}, []float64{1, 3, 2, 4}, 0.8},
		{"holes", []float64{1, nan, 2, 3, 9}, []float64{1, 7, 2, 3, nan}, 1},
		{"lengths", []float64{1, 2, 3, 99}, []float64{2, 4, 6}, 1},
		{"too few", []float64{1, 2}, []float64{1, 2}, nan},
		{"constant", []float64{0.1, 0.1, 0.1}, []float64{1, 2, 3}, nan},
		{"empty", nil, nil, nan},
		{"all holes", []float64{nan, nan, nan}, []float64{1, 2, 3}, nan},
	}
	for _, tt := range tests {
		if r := pearson(tt.x, tt.y); !near(r, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, r, tt.want)
		}
	}
}

// speech is a curve with syllables at about 4 Hz, seen at 25 fps, shifted by a
// lag in frames.
func speech(n int, lag float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		t := (float64(i) - lag) / 25
		v[i] = math.Max(0, math.Sin(2*math.Pi*3.1*t)+0.6*math.Sin(2*math.Pi*4.7*t+1))
	}
	return v
}

func TestLag(t *testing.T) {
	sound := speech(250, 0)
	for _, lag := range []float64{0, 1, -3, 0.4, -0.3, 2.5, 7} {
		mouth := speech(250, lag)
		for i := 40; i < 50; i++ {
			mouth[i] = nan // frames without a face
		}
		got, r := correlate(mouth, sound, lagReach).best()
		if math.Abs(got-lag) > 0.1 || r < 0.8 {
			t.Errorf("lag %v: found %v with correlation %v", lag, got, r)
		}
	}
	// At the end of the reach there is no neighbour to refine with.
	if got, _ := correlate(speech(250, 8), sound, lagReach).best(); got != 8 {
		t.Errorf("lag 8: found %v", got)
	}
}

func TestLagOfNothing(t *testing.T) {
	for _, v := range [][]float64{nil, {1}, {1, 1, 1, 1}, {nan, nan, nan, nan}} {
		l := correlate(v, []float64{1, 2, 3, 4}, lagReach)
		lag, r := l.best()
		if !math.IsNaN(lag) || !math.IsNaN(r) || !math.IsNaN(l.at(0)) || len(l.r) != 17 {
			t.Errorf("%v: lag %v, correlation %v, %v", v, lag, r, l.r)
		}
	}
}

func TestPercentile(t *testing.T) {
	v := []float64{4, nan, 1, 3, 2, 5}
	for p, want := range map[float64]float64{0: 1, 0.5: 3, 1: 5, 0.125: 1.5, 0.95: 4.8, -1: 1, 2: 5} {
		if got := percentile(v, p); !near(got, want) {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
	}
	if !math.IsNaN(percentile(nil, 0.5)) || !math.IsNaN(percentile([]float64{nan}, 0.5)) {
		t.Error("there is no percentile of nothing")
	}
	if v[0] != 4 {
		t.Error("the series was changed")
	}
}

func TestDeviation(t *testing.T) {
	if got := deviation([]float64{2, 4, nan, 4, 4, 5, 5, 7, 9}); !near(got, 2) {
		t.Errorf("%v, want 2", got)
	}
	if !math.IsNaN(deviation(nil)) {
		t.Error("there is no deviation of nothing")
	}
}
