package bench

import (
	"math"
	"testing"
)

// curves is a sound of 10 s at 25 fps with silence from 4 s to 6 s and a
// closure at every whole second of speech.
func curves() (soundCurves, []float64) {
	wanted := speech(250, 0)
	s := soundCurves{wanted: wanted, envelope: speech(250, 0.5), speaking: make([]bool, 250), silent: make([]bool, 250)}
	for i := range wanted {
		s.silent[i] = i >= 100 && i < 150
		s.speaking[i] = !s.silent[i]
		if s.silent[i] {
			wanted[i], s.envelope[i] = 0, 0
		}
		if i%25 == 0 && s.speaking[i] {
			s.closures = append(s.closures, i)
			for k := max(0, i-1); k <= i+1; k++ {
				wanted[k] = 0
			}
		}
	}
	return s, wanted
}

func find(t *testing.T, figures []Figure, key string) Figure {
	t.Helper()
	for _, f := range figures {
		if f.Key == key {
			return f
		}
	}
	t.Fatalf("there is no figure %q", key)
	return Figure{}
}

func TestPerfectLips(t *testing.T) {
	s, wanted := curves()
	open := make([]float64, len(wanted))
	for i, v := range wanted {
		open[i] = 0.01 + 0.2*v
	}
	open[7] = nan
	figures, _ := lipFigures(open, s)
	if missed := Missed(figures); len(missed) != 0 {
		t.Errorf("missed %q", missed)
	}
	for key, want := range map[string]float64{"r_best": 1, "r_0": 1, "lag": 0, "closures": 100, "faces": 99.6, "silence_std": 0} {
		if got := find(t, figures, key).Value; math.Abs(got-want) > 0.02 {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
}

func TestBadLips(t *testing.T) {
	s, wanted := curves()
	open := make([]float64, len(wanted))
	for i := range open {
		// Three frames late, never closed, restless in silence.
		open[i] = 0.1 + 0.01*float64(i%3)
		if i >= 3 && s.speaking[i] {
			open[i] += 0.2 * wanted[i-3]
		}
	}
	figures, _ := lipFigures(open, s)
	if lag := find(t, figures, "lag"); math.Abs(lag.Value-3) > 0.3 || lag.Verdict() != "FAIL" {
		t.Errorf("lag %v %s", lag.Value, lag.Verdict())
	}
	if v := find(t, figures, "silence"); v.Verdict() != "FAIL" {
		t.Errorf("silence %v", v.Value)
	}
	if v := find(t, figures, "silence_std"); !(v.Value > 1) {
		t.Errorf("movement in silence %v", v.Value)
	}
	if v := find(t, figures, "closures"); v.Value != 0 {
		t.Errorf("closures met %v", v.Value)
	}
}

// TestStillLips: a mouth that does not move has failed, whatever cannot be
// computed of it.
func TestStillLips(t *testing.T) {
	s, wanted := curves()
	open := make([]float64, len(wanted))
	figures, _ := lipFigures(open, s)
	for _, key := range []string{"lag", "r_best", "silence"} {
		if f := find(t, figures, key); f.Verdict() != "FAIL" {
			t.Errorf("%s: %v %s", key, f.Value, f.Verdict())
		}
	}
}

func TestNoSilence(t *testing.T) {
	s, wanted := curves()
	s.silent = make([]bool, len(wanted))
	s.closures = nil
	figures, _ := lipFigures(wanted, s)
	for _, key := range []string{"silence", "closures"} {
		if f := find(t, figures, key); !math.IsNaN(f.Value) || f.Verdict() != "" || f.Note == "" {
			t.Errorf("%s: %+v", key, f)
		}
	}
}

func TestClosures(t *testing.T) {
	open := []float64{1, 1, 0.1, 1, 1, nan, nan, nan, 1, 0.1}
	for _, tt := range []struct {
		closures   []int
		met, asked int
	}{
		{[]int{2}, 1, 1}, {[]int{1}, 1, 1}, {[]int{0}, 0, 1}, {[]int{6}, 0, 0}, {[]int{7}, 0, 1}, {[]int{9, 0}, 1, 2}, {nil, 0, 0},
	} {
		if met, asked := closuresMet(open, tt.closures, 0.25); met != tt.met || asked != tt.asked {
			t.Errorf("%v: %d of %d, want %d of %d", tt.closures, met, asked, tt.met, tt.asked)
		}
	}
}
