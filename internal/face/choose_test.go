package face

import (
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// A large face and a small one that the whole picture's level does not see:
// every choice is among both, from the first frame on.
func TestChoicesUnequal(t *testing.T) {
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
			tr := newTracker(t, face)
			for i, o := range follow(t, tr, frames) {
				if o.Face == nil || o.Face.Track != 0 {
					t.Fatalf("%s, mirrored %v: frame %d: face %v", face, mirrored, i, o.Face != nil)
				}
				if w := o.Face.Width(); (w > 150) != big {
					t.Fatalf("%s, mirrored %v: frame %d: follows the face %.0f wide", face, mirrored, i, w)
				}
			}
		}
		tr := newTracker(t, "3")
		if follow(t, tr, frames); tr.Stats().None != len(frames) {
			t.Errorf("mirrored %v: a third face of two: %+v", mirrored, tr.Stats())
		}
	}
}

// A small second face that comes later is found within one round of the finer
// levels.
func TestSmallNewcomer(t *testing.T) {
	portrait := readPNG(t, "portrait.png")
	n := float64(portrait.W)
	draw := func(i int, both bool) *frame.Frame {
		p := grey(1280, 720)
		place(p, portrait, 350+float64(i%2), 360, 700/n, 0)
		if both {
			place(p, portrait, 1110, 400, 260/n, 0)
		}
		return toFrame(p)
	}
	var frames []*frame.Frame
	for i := range 5 + 3*detectEvery + LookAhead + 5 {
		frames = append(frames, draw(i, i >= 5))
	}
	tr := newTracker(t, "2")
	tr.cuts.disabled = true
	out := follow(t, tr, frames)
	if f := out[0].Face; f != nil {
		t.Error("a second face of one")
	}
	if f := out[len(out)-1].Face; f == nil || f.Points[4].X < 900 {
		t.Errorf("the newcomer is not followed: %+v", tr.Stats())
	}
}

// Who is more than can be followed at once is counted, then remembered.
func TestThin(t *testing.T) {
	p := people{complete: true}
	for i := range 10 {
		q := &person{obs: &observation{x1: float64(10 + i), y1: float64(10 + i)}}
		p.all = append(p.all, q)
	}
	p.chosen = p.all[0]
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
