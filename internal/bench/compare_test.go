package bench

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// TestPSNR compares frames that differ by known amounts at known places.
func TestPSNR(t *testing.T) {
	for _, depth := range []int{8, 10} {
		f := frame.Format{Width: 16, Height: 8, ShiftX: 1, ShiftY: 1, Depth: depth}
		a, b := frame.New(f), frame.New(f)
		r := &Region{x0: 4, y0: 2, w: 3, h: 2, in: []bool{true, true, true, true, true, false}}
		out, in := Difference(a, b, r)
		if out.Luma(depth) != bestPSNR || in.all(depth) != bestPSNR {
			t.Errorf("depth %d: equal frames differ", depth)
		}
		if in.n != [3]float64{5, 2, 2} || out.n != [3]float64{123, 30, 30} {
			t.Errorf("depth %d: counted %v inside and %v outside", depth, in.n, out.n)
		}
		at := func(x, y int) int { return (y*16 + x) * f.SampleBytes() }
		b.Planes[0][at(5, 3)] = 10 // inside
		b.Planes[0][at(6, 3)] = 2  // just outside
		b.Planes[1][(1*8+3)*f.SampleBytes()] = 4
		out, in = Difference(a, b, r)
		if in.sum != [3]float64{100, 16, 0} || out.sum != [3]float64{4, 0, 0} {
			t.Errorf("depth %d: errors %v inside and %v outside", depth, in.sum, out.sum)
		}
		peak := float64(int(1)<<depth - 1)
		if got, want := out.Luma(depth), 10*math.Log10(peak*peak*123/4); !near(got, want) {
			t.Errorf("depth %d: %v dB, want %v", depth, got, want)
		}
		whole, none := Difference(a, b, nil)
		if whole.sum != [3]float64{104, 16, 0} || none.n != [3]float64{} || !math.IsNaN(none.Luma(depth)) {
			t.Errorf("depth %d: %v, %v without a region", depth, whole, none)
		}
	}
}

// TestMask compares the grown mask with what the definition says, pixel by
// pixel, for faces inside, across and beyond the frame's edges.
func TestMask(t *testing.T) {
	f := frame.Format{Width: 320, Height: 240, ShiftX: 1, ShiftY: 1, Depth: 8}
	m := newMasker()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 6 {
		sin, cos := math.Sincos(0.4 * (rng.Float64() - 0.5))
		s := 0.8 + 1.5*rng.Float64() // template units a pixel
		align := frame.Affine{A: s * cos, B: -s * sin, C: 100 - 200*rng.Float64(), D: s * sin, E: s * cos, F: 100 - 200*rng.Float64()}
		r := m.mask(f, align)
		count := 0
		for y := range f.Height {
			for x := range f.Width {
				want := false
				for dy := -growth; dy <= growth; dy++ {
					for dx := -growth; dx <= growth; dx++ {
						if px, py := x+dx, y+dy; px >= 0 && py >= 0 && px < f.Width && py < f.Height {
							u, v := align.Apply(float64(px), float64(py))
							want = want || m.touched(u, v)
						}
					}
				}
				if r.has(x, y) != want {
					t.Fatalf("align %v: (%d, %d) is %v, want %v", align, x, y, !want, want)
				}
				if want {
					count++
				}
			}
		}
		t.Logf("%d pixels", count)
	}
	if r := m.mask(f, frame.Affine{A: 1, E: 1, C: 5000}); r.has(0, 0) || r.has(319, 239) {
		t.Error("a face far outside has a mask in the frame")
	}
	if r := m.mask(f, frame.Affine{}); r.has(0, 0) {
		t.Error("a face without a size has a mask")
	}
}

func TestPixels(t *testing.T) {
	f := frame.Format{Width: 320, Height: 240, ShiftX: 1, ShiftY: 1, Depth: 8}
	source, out := frame.New(f), frame.New(f)
	// The template's middle lies on the frame's; only the mouth is changed.
	found := &face.Face{Align: frame.Affine{A: 1, E: 1, C: -55, F: 20}}
	for y := 150; y < 160; y++ {
		for x := 150; x < 170; x++ {
			out.Planes[0][y*320+x] = 200
		}
	}
	p := newPixels(f)
	p.compare(face.Tracked{Frame: source, Face: found}, out)
	if p.outside.worst != bestPSNR || p.inside.worst > 40 {
		t.Errorf("outside %v dB, inside %v dB", p.outside.worst, p.inside.worst)
	}
	out.Planes[0][0] = 255 // one pixel far from the face
	p.compare(face.Tracked{Frame: source, Face: found}, out)
	if p.outside.worstLuma >= bestPSNR || p.outside.frames != 2 {
		t.Errorf("outside %v dB in %d frames", p.outside.worstLuma, p.outside.frames)
	}
	p.compare(face.Tracked{Frame: source}, out)
	if p.noFace.frames != 1 || p.noFace.worst > 40 {
		t.Errorf("without a face: %v dB", p.noFace.worst)
	}
	got := map[string]string{}
	for _, figure := range p.figures() {
		got[figure.Key] = figure.Verdict()
	}
	if got["outside_worst"] != "ok" || got["no_face_worst"] != "FAIL" {
		t.Errorf("verdicts %v", got)
	}
}
