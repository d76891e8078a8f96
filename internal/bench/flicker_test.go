package bench

import (
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// brighten adds to the luma of a frame by the part in which a pixel is.
func brighten(t face.Tracked, amount func(part int) int) {
	parts := partsOf(t.Face)
	for y := range t.Frame.Height {
		for x := range t.Frame.Width {
			u, v := t.Face.Align.Apply(float64(x), float64(y))
			part := outside
			if u > -0.5 && v > -0.5 && u < width-0.5 && v < height-0.5 {
				part = parts[int(math.Round(v))*width+int(math.Round(u))]
			}
			p := &t.Frame.Planes[0][y*t.Frame.Width+x]
			*p = byte(min(255, int(*p)+amount(part)))
		}
	}
}

// flickerOf returns the flicker of a video of the portrait, which at and change make of its
// frames, and of its source, which is not changed.
func flickerOf(t *testing.T, frames int, at func(i int) frame.Affine, change func(i, part int) int) map[string]Figure {
	t.Helper()
	s := newRun()
	for i := range frames {
		source := portrait(t, at(i))
		out := face.Tracked{Frame: frame.New(source.Frame.Format), Face: source.Face}
		copy(out.Frame.Data, source.Frame.Data)
		brighten(out, func(part int) int { return change(i, part) })
		if err := s.faces(t.Context(), out, source); err != nil {
			t.Fatal(err)
		}
	}
	keys := map[string]Figure{}
	for _, f := range flickerFigures(s.flicker, s.before) {
		keys[f.Key] = f
	}
	return keys
}

// TestFlicker lets a face flicker in several ways, while it moves, and without.
func TestFlicker(t *testing.T) {
	backendtest.SkipShort(t)
	still := func(int) frame.Affine { return same }
	moving := func(i int) frame.Affine {
		sin, cos := math.Sincos(0.02 * float64(i%3))
		return frame.Affine{A: cos, B: -sin, C: 1.3 * float64(i), D: sin, E: cos, F: 0.7 * float64(i*i%5)}
	}
	always := func(int) bool { return true }
	for _, tt := range []struct {
		name                string
		at                  func(int) frame.Affine
		by                  func(i int) int
		in                  func(part int) bool
		border, skin, mouth bool // whether they flicker
	}{
		{"nothing", still, func(int) int { return 0 }, always, false, false, false},
		{"motion of the head", moving, func(int) int { return 0 }, always, false, false, false},
		{"it gets brighter", still, func(i int) int { return 4 * i }, always, false, false, false},
		{"every second frame", still, func(i int) int { return 8 * (i % 2) }, always, true, true, true},
		{"every second frame of a moving head", moving, func(i int) int { return 8 * (i % 2) }, always, true, true, true},
		{"the border only", still, func(i int) int { return 8 * (i % 2) }, func(part int) bool { return part == atBorder }, true, false, false},
		{"the mouth only", still, func(i int) int { return 8 * (i % 2) }, func(part int) bool { return part == onMouth }, false, false, true},
	} {
		got := flickerOf(t, 5, tt.at, func(i, part int) int {
			if !tt.in(part) {
				return 0
			}
			return tt.by(i)
		})
		for key, want := range map[string]bool{"flicker_border": tt.border, "flicker_skin": tt.skin, "flicker_mouth": tt.mouth} {
			f := got[key]
			if flickers := f.Value > 1.5; flickers != want {
				t.Errorf("%s: %s is %v", tt.name, key, f.Value)
			}
			if f.Max != nil && (f.Verdict() == "FAIL") != want {
				t.Errorf("%s: %s is %s with %v, the source has %v", tt.name, key, f.Verdict(), f.Value, got[key+"_source"].Value)
			}
			t.Logf("%s: %s %.3f, source %.3f", tt.name, key, f.Value, got[key+"_source"].Value)
		}
	}
}

// TestFlickerAcrossCuts compares no frame with one of another track, or without a face.
func TestFlickerAcrossCuts(t *testing.T) {
	run := newRun()
	run.before, run.identity = nil, nil
	for i := range 12 {
		f := portrait(t, same)
		f.Face.Track = i / 3
		brighten(f, func(int) int { return 40 * (i / 3 % 2) })
		if i == 7 {
			f.Face = nil
		}
		if err := run.faces(t.Context(), f, face.Tracked{}); err != nil {
			t.Fatal(err)
		}
	}
	for part, values := range run.flicker.frames {
		var measured []int
		for i, v := range values {
			if !math.IsNaN(v) {
				measured = append(measured, i)
				if v != 0 {
					t.Errorf("part %d, frame %d: %v", part, i, v)
				}
			}
		}
		if len(values) != 12 || len(measured) != 3 || measured[0] != 1 || measured[1] != 4 || measured[2] != 10 {
			t.Errorf("part %d: frames %v were measured", part, measured)
		}
	}
}

// TestFlickerCut leaves out pixels that one of the three frames does not have next to them.
func TestFlickerCut(t *testing.T) {
	level := func(v float64, unknown int) []float64 { // the first columns are outside of the frame
		out := make([]float64, width*height)
		for i := range out {
			if out[i] = v; i%width < unknown {
				out[i] = math.NaN()
			}
		}
		return out
	}
	skin := make([]int, width*height)
	for i := range skin {
		skin[i] = onSkin
	}
	for _, cut := range [][3]int{{0, 0, 0}, {width / 2, 0, 0}, {0, width / 2, 0}, {0, 0, width / 2}} {
		if got := reversals(level(100, cut[0]), level(104, cut[1]), level(100, cut[2]), skin); got[onSkin] != 4 {
			t.Errorf("without the first %v columns: %v, want 4", cut, got[onSkin])
		}
	}
}
