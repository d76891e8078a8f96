package face

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/frame"
)

// guest is a portrait in a scene.
type guest struct {
	portrait *frame.RGB
	at       stage
}

// second returns the portrait of another person: of the only one there is, with other
// colours.
func second(t *testing.T) *frame.RGB {
	t.Helper()
	p := readPNG(t, filepath.Join("mesh", "astronaut.png"))
	for i := 0; i < len(p.Pix); i += 3 {
		r, g, b := float64(p.Pix[i]), float64(p.Pix[i+1]), float64(p.Pix[i+2])
		p.Pix[i], p.Pix[i+1], p.Pix[i+2] = byte(0.6*r), byte(0.55*g), byte(0.5*b+20)
	}
	return p
}

// party draws portraits into a room, the last one in front.
func party(guests ...guest) *frame.Frame {
	p := grey(sceneW, sceneH)
	for _, g := range guests {
		place(p, g.portrait, g.at.x, g.at.y, g.at.scale, g.at.angle)
	}
	return toFrame(p)
}

// newDuet returns a tracker of two faces, for which all frames are one shot unless cuts
// says otherwise.
func newDuet(t *testing.T, first, second string, cuts func(*frame.Frame) bool) *Tracker {
	t.Helper()
	a, errA := ParseChoice(first)
	b, errB := ParseChoice(second)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	d, m := nets(t)
	tr := trackWith(d, m, Options{Choice: a, Others: []Choice{b}})
	tr.cuts = cuts
	return tr
}

// wanted is where the two faces should be in a frame; NaN if they should not be found,
// +Inf if it does not matter.
type wanted struct{ a, b float64 }

func check(t *testing.T, out []Tracked, want func(i int) wanted) {
	t.Helper()
	for i, o := range out {
		if len(o.Others) != 1 {
			t.Fatalf("frame %d has %d other faces", i, len(o.Others))
		}
		w := want(i)
		for _, c := range []struct {
			name string
			face *Face
			x    float64
		}{{"first", o.Face, w.a}, {"second", o.Others[0], w.b}} {
			switch {
			case math.IsInf(c.x, 1) && c.face == nil:
			case math.IsNaN(c.x) != (c.face == nil):
				t.Errorf("frame %d: %s face found: %v", i, c.name, c.face != nil)
			case c.face != nil && !math.IsInf(c.x, 1) && math.Abs(c.face.Points[4].X-c.x) > 40:
				t.Errorf("frame %d: %s face at %.0f, want %.0f", i, c.name, c.face.Points[4].X, c.x)
			}
		}
	}
}

// The nose of each test picture, in pixels from its middle at scale 1.
func noses(t *testing.T, portraits ...*frame.RGB) (dx []float64) {
	t.Helper()
	for _, p := range portraits {
		tr := newTracker(t, "")
		out := follow(t, tr, []*frame.Frame{party(guest{p, stage{320, 240, 0.6, 0}})})
		if out[0].Face == nil {
			t.Fatal("a portrait has no face")
		}
		dx = append(dx, (out[0].Face.Points[4].X-320)/0.6)
	}
	return dx
}

// TestTwoFaces follows two people, of whom one leaves and comes back, at another place.
// Nobody takes the place of the other.
func TestTwoFaces(t *testing.T) {
	backendtest.SkipShort(t)
	a, b := readPNG(t, "portrait.png"), second(t)
	dx := noses(t, a, b)
	const scale = 0.55
	var frames []*frame.Frame
	for i := range 60 {
		one, two := guest{a, stage{170, 240, scale, 0}}, guest{b, stage{470 + 8*math.Sin(float64(i)), 240, scale, 0}}
		switch {
		case i < 10:
			frames = append(frames, party(one, two))
		case i < 20:
			frames = append(frames, party(one))
		case i < 35: // back
			frames = append(frames, party(one, two))
		case i < 45:
			frames = append(frames, party(two))
		default: // back, between where both were
			one.at.x, two.at.x = 130, 510
			frames = append(frames, party(two, one))
		}
	}
	for _, c := range [][2]string{{"1", "2"}, {"right", "left"}} {
		tr := newDuet(t, c[0], c[1], noCuts)
		check(t, follow(t, tr, frames), func(i int) wanted {
			w := wanted{170 + scale*dx[0], 470 + scale*dx[1]}
			if i >= 45 {
				w = wanted{130 + scale*dx[0], 510 + scale*dx[1]}
			}
			switch back := float64(detectEvery + 2); {
			case i >= 10 && i < 20:
				w.b = math.NaN()
			case i >= 20 && i < 20+int(back):
				w.b = math.Inf(1)
			case i >= 35 && i < 45:
				w.a = math.NaN()
			case i >= 45 && i < 45+int(back):
				w = wanted{math.Inf(1), math.Inf(1)}
			}
			if c[0] == "right" {
				w.a, w.b = w.b, w.a
			}
			return w
		})
	}
}

// TestCrossing lets one person walk past in front of another, and back behind.
func TestCrossing(t *testing.T) {
	backendtest.SkipShort(t)
	a, b := readPNG(t, "portrait.png"), second(t)
	dx := noses(t, a, b)
	const scale, n = 0.45, 80
	for _, firstInFront := range []bool{false, true} {
		var frames []*frame.Frame
		var xs [][2]float64
		for i := range n {
			x := 150 + 340*float64(i)/(n-1)
			one, two := guest{a, stage{x, 240, scale, 0}}, guest{b, stage{640 - x, 240, scale, 0}}
			if firstInFront {
				one, two = two, one
			}
			frames = append(frames, party(one, two))
			xs = append(xs, [2]float64{x + scale*dx[0], 640 - x + scale*dx[1]})
		}
		check(t, follow(t, newDuet(t, "left", "right", noCuts), frames), func(i int) wanted {
			w := wanted{xs[i][0], xs[i][1]}
			if d := math.Abs(w.a - w.b); d < 170 { // one hides the other, or is being looked for
				w = wanted{math.Inf(1), math.Inf(1)}
			}
			return w
		})
	}
}

// TestOneOfTwo: in a shot that shows one person, the mouth of the right one speaks.
func TestOneOfTwo(t *testing.T) {
	backendtest.SkipShort(t)
	a, b := readPNG(t, "portrait.png"), second(t)
	dx := noses(t, a, b)
	const scale, shot = 0.55, 8
	var frames []*frame.Frame
	for i := range 4 * shot {
		move := float64(i % 3) // or the frames would count as one
		one, two, middle := guest{a, stage{170 + move, 240, scale, 0}}, guest{b, stage{470, 240, scale, 0}}, 320+move
		switch i / shot {
		case 0, 3:
			frames = append(frames, party(one, two))
		case 1:
			two.at.x = middle
			frames = append(frames, party(two))
		default:
			one.at.x = middle
			frames = append(frames, party(one))
		}
	}
	at := -1
	tr := newDuet(t, "left", "right", func(*frame.Frame) bool { at++; return at > 0 && at%shot == 0 })
	check(t, follow(t, tr, frames), func(i int) wanted {
		switch i / shot {
		case 1:
			return wanted{math.NaN(), 320 + scale*dx[1]}
		case 2:
			return wanted{320 + scale*dx[0], math.NaN()}
		}
		return wanted{170 + scale*dx[0], 470 + scale*dx[1]}
	})
	// Before both have been seen, the place in the frame counts.
	var alone []*frame.Frame
	for i := range 4 {
		alone = append(alone, party(guest{b, stage{470 + float64(i), 240, scale, 0}}))
	}
	check(t, follow(t, newDuet(t, "left", "right", noCuts), alone), func(int) wanted { return wanted{math.NaN(), 470 + scale*dx[1]} })
}
