package face

import (
	"os"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// TestChoices follows two people: each choice keeps its person while they move.
func TestChoices(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	var frames []*frame.Frame
	for i := range 24 {
		d := 2 * float64(i)
		// At first the left one is larger; later the right one is larger and nearer
		// to the centre.
		f, _ := scene(portrait, stage{170 - d, 240, 0.62 - 0.005*d/2, 0}, stage{480 - d, 240, 0.5 + 0.005*d/2, 0})
		frames = append(frames, f)
	}
	for face, left := range map[string]bool{"largest": true, "left": true, "1": true, "center": true, "right": false, "2": false} {
		out := follow(t, newTracker(t, face), frames)
		for i, o := range out {
			if o.Face == nil {
				t.Fatalf("%s: frame %d: no face", face, i)
			}
			x := o.Face.Points[4].X
			if (x < 325-2*float64(i)) != left {
				t.Fatalf("%s: frame %d: follows the face at %.0f", face, i, x)
			}
		}
		if track := out[23].Face.Track; track != 0 {
			t.Errorf("%s: ends on track %d", face, track)
		}
	}
	tr := newTracker(t, "3")
	if slices.ContainsFunc(follow(t, tr, frames[:4]), hasFace) {
		t.Error("a third face was chosen from two")
	}
}

// unequal draws a large face on the left and a small one on the right, or mirrored, as in
// an interview with somebody in the background.
func unequal(portrait *frame.RGB, i int, mirrored bool) *frame.Frame {
	p := grey(1280, 720)
	n := float64(portrait.W)
	d := float64(i)
	big, small := 350+d, 1110-d
	if mirrored {
		big, small = 1280-big, 1280-small
	}
	place(p, portrait, big, 360, 700/n, 0)
	place(p, portrait, small, 400+d, 260/n, 0)
	return toFrame(p)
}

// When the chosen person leaves, nobody who was visible at the same time replaces them.
func TestNoSwitch(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	var frames []*frame.Frame
	for i := range 40 {
		right := stage{480, 240, 0.5, 0}
		if i >= 8 && i < 25 {
			f, _ := scene(portrait, right)
			frames = append(frames, f)
			continue
		}
		f, _ := scene(portrait, stage{170, 240, 0.6, 0}, right)
		frames = append(frames, f)
	}
	tr := newTracker(t, "left")
	tr.cuts = noCuts
	for i, o := range follow(t, tr, frames) {
		there := i < 8 || i >= 25+detectEvery
		if o.Face != nil && o.Face.Points[4].X > 325 {
			t.Fatalf("frame %d: the other face", i)
		}
		if i < 25 && (o.Face != nil) != there || there && o.Face == nil {
			t.Errorf("frame %d: face %v", i, o.Face != nil)
		}
	}
}

// Level 0 does not find the small one of two faces, but every choice considers both from
// the first frame on.
func TestChoicesUnequal(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	for _, mirrored := range []bool{false, true} {
		var frames []*frame.Frame
		for i := range 14 {
			frames = append(frames, unequal(portrait, i, mirrored))
		}
		for face, big := range map[string]bool{
			"largest": true, "center": true,
			"left": !mirrored, "1": !mirrored, "right": mirrored, "2": mirrored,
		} {
			if numbered := face == "1" || face == "2"; numbered != mirrored && os.Getenv("LIPSTREAM_LONG") == "" {
				continue
			}
			tr := newTracker(t, face)
			for i, o := range follow(t, tr, frames) {
				if o.Face == nil || o.Face.Track != 0 {
					t.Fatalf("%s, mirrored %v: frame %d: face %v", face, mirrored, i, o.Face != nil)
				}
				if w := dist(o.Face.Points[234], o.Face.Points[454]); (w > 150) != big {
					t.Fatalf("%s, mirrored %v: frame %d: follows the face %.0f wide", face, mirrored, i, w)
				}
			}
		}
		tr := newTracker(t, "3")
		if slices.ContainsFunc(follow(t, tr, frames), hasFace) {
			t.Errorf("mirrored %v: a third face was chosen from two", mirrored)
		}
	}
}

// A small second face that appears later is found within one round of the finer levels.
func TestSmallNewcomer(t *testing.T) {
	backendtest.SkipShort(t)
	portrait := readPNG(t, "portrait.png")
	n := float64(portrait.W)
	draw := func(x float64, both bool) *frame.Frame {
		p := grey(1280, 720)
		place(p, portrait, x, 360, 700/n, 0)
		if both {
			place(p, portrait, 1110, 400, 260/n, 0)
		}
		return toFrame(p)
	}
	one := []*frame.Frame{draw(350, false), draw(351, false)}
	two := []*frame.Frame{draw(350, true), draw(351, true)}
	var frames []*frame.Frame
	for i := range 5 + 3*detectEvery + LookAhead + 5 {
		from := one[i%2]
		if i >= 5 {
			from = two[i%2]
		}
		f := frame.New(from.Format)
		copy(f.Data, from.Data)
		frames = append(frames, f)
	}
	tr := newTracker(t, "2")
	tr.cuts = noCuts
	out := follow(t, tr, frames)
	if f := out[0].Face; f != nil {
		t.Error("a second face was chosen from one")
	}
	if f := out[len(out)-1].Face; f == nil || f.Points[4].X < 900 {
		t.Error("the newcomer is not followed")
	}
}

// People beyond the number that can be followed are considered and then remembered.
func TestThin(t *testing.T) {
	p := people{complete: true}
	for i := range 10 {
		q := &person{obs: &observation{x1: float64(10 + i), y1: float64(10 + i)}}
		p.all = append(p.all, q)
	}
	p.chosen = p.all[:1]
	p.thin()
	for i, q := range p.all {
		if kept := q.gone == 0; kept != (i == 0 || i >= 5) {
			t.Errorf("person %d: gone %d", i, q.gone)
		}
	}
}

func TestParseChoice(t *testing.T) {
	for _, s := range []string{"0", "-1", "best", "1.5", " left"} {
		if _, err := ParseChoice(s); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func hasFace(t Tracked) bool { return t.Face != nil }
