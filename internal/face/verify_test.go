package face

import (
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/frame"
)

// TestRotations finds a face turned by every 15 degrees, in a video of one frame.
func TestRotations(t *testing.T) {
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	tr := newTracker(t, "")
	step := 15
	if testing.Short() {
		step = 90
	}
	for deg := 0; deg < 360; deg += step {
		f, to := scene(portrait, stage{320, 240, 0.7, float64(deg) * math.Pi / 180})
		out := follow(t, tr, []*frame.Frame{f})
		if out[0].Face == nil {
			t.Errorf("%d degrees: no face", deg)
		} else if e, _ := meanError(out[0].Face, ref, to[0]); e > 1.5 {
			t.Errorf("%d degrees: error of %.1f pixels", deg, e)
		}
	}
}

// TestTurnedSmall finds small faces that are not upright in the first frame of a shot.
func TestTurnedSmall(t *testing.T) {
	backendtest.SkipShort(t)
	d, m := nets(t)
	face := readPNG(t, "portrait.png").Half().Half() // 128 x 128, face about 46 wide
	for _, angle := range []float64{math.Pi, math.Pi / 2, -2.4} {
		pic := grey(1280, 720)
		place(pic, face, 900, 250, 1.3, angle)
		p := people{detector: d, mesh: m}
		fresh, err := p.next(t.Context(), pic)
		if err != nil {
			t.Fatal(err)
		}
		if len(fresh) != 1 {
			t.Errorf("%.1f: %d people", angle, len(fresh))
			continue
		}
		o := fresh[0].obs
		if x, y := o.centre(); math.Hypot(x-900, y-250) > 30 || math.Abs(math.Remainder(o.angle()-angle, 2*math.Pi)) > 0.2 {
			t.Errorf("%.1f: found at %.0f, %.0f, turned by %.1f", angle, x, y, o.angle())
		}
	}
}

// TestSpin follows a face through a full turn, without a break.
func TestSpin(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	frames, to := film(portrait, 60, func(i int) stage {
		return stage{320, 240, 0.7, 2 * math.Pi * float64(i) / 60}
	})
	tr := newTracker(t, "")
	tr.cuts = noCuts
	for i, o := range follow(t, tr, frames) {
		if o.Face == nil || o.Face.Track != 0 {
			t.Fatalf("frame %d: %+v", i, o.Face)
		}
		if e, _ := meanError(o.Face, ref, to[i]); e > 1.5 {
			t.Errorf("frame %d: error of %.1f pixels", i, e)
		}
	}
}

// TestFlip turns the picture upside down in the middle of a shot, and back. For a few
// frames, until the face is checked again, there is none; never is one in the hair.
func TestFlip(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	const n = 40
	frames, to := film(portrait, n, func(i int) stage {
		angle := math.Pi * float64(i/15%2)
		return stage{320 + float64(i), 240, 0.7, angle}
	})
	tr := newTracker(t, "")
	tr.cuts = noCuts
	found := 0
	for i, o := range follow(t, tr, frames) {
		if o.Face == nil {
			continue
		}
		found++
		if e, _ := meanError(o.Face, ref, to[i]); e > 1.5 {
			t.Errorf("frame %d: error of %.1f pixels", i, e)
		}
	}
	if found < n-4 {
		t.Errorf("a face in %d of %d frames", found, n)
	}
}

// TestFades follows a face through a fade from black, and one from white. Before anything
// can be seen, there is no face; from then on it is one face, and there is no cut.
func TestFades(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	ref := reference(t, portrait)
	for name, white := range map[string]float64{"black": 0, "white": 255} {
		var frames []*frame.Frame
		var to []frame.Affine
		p := grey(sceneW, sceneH)
		m := place(p, portrait, 320, 240, 0.7, 0)
		const n = 32
		for i := range n {
			gain := float64(i) / n
			frames, to = append(frames, toFrame(gainOffset(p, gain, (1-gain)*white))), append(to, m)
		}
		for i, o := range follow(t, newTracker(t, ""), frames) {
			if o.Cut {
				t.Errorf("%s: a cut at frame %d", name, i)
			}
			if o.Face == nil {
				if i > 3 {
					t.Errorf("%s: no face in frame %d", name, i)
				}
				continue
			}
			if i == 0 || o.Face.Track != 0 {
				t.Errorf("%s: frame %d has a face of track %d", name, i, o.Face.Track)
			}
			if e, _ := meanError(o.Face, ref, to[i]); e > 2 {
				t.Errorf("%s: frame %d: error of %.1f pixels", name, i, e)
			}
		}
	}
}

// TestStretch checks that an image with contrast stays as it is, and that one without
// gets it, except beyond the picture.
func TestStretch(t *testing.T) {
	ramp := func(low, high int) *frame.RGB {
		p := frame.NewRGB(64, 64)
		for i := range p.Pix {
			p.Pix[i] = byte(low + (high-low)*(i/3%64)/63)
		}
		return p
	}
	for _, c := range []struct{ low, high, wantLow, wantHigh int }{
		{20, 220, 20, 220}, {0, 16, 0, 160}, {239, 255, 95, 255}, {100, 140, 95, 255}, {7, 7, 7, 7},
	} {
		p := ramp(c.low, c.high)
		contrast := stretch(p, frame.Affine{A: 1, E: 1}, 64, 64, 1)
		if contrast != c.high-c.low || int(p.Pix[0]) != c.wantLow || int(p.Pix[len(p.Pix)-1]) != c.wantHigh {
			t.Errorf("%+v: contrast %d, now %d to %d", c, contrast, p.Pix[0], p.Pix[len(p.Pix)-1])
		}
	}
	// Only columns 16 to 47 show the picture; the others are its black border.
	p := ramp(10, 73)
	for y := range 64 {
		for x := range 64 {
			if x < 16 || x >= 48 {
				clear(p.Pix[3*(64*y+x):][:3])
			}
		}
	}
	contrast := stretch(p, frame.Affine{A: 1, C: -16, E: 1}, 32, 64, 1)
	if contrast != 31 || p.Pix[0] != 0 || p.Pix[3*16] != 26 || p.Pix[3*47] != 186 {
		t.Errorf("contrast %d, now %d, %d to %d", contrast, p.Pix[0], p.Pix[3*16], p.Pix[3*47])
	}
}
