// Package liptest is the conformance suite that every lip.Engine passes.
package liptest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// Subject is an engine with suitable input.
type Subject struct {
	Open func(t *testing.T) lip.Engine
	// Picture is a frame that shows Face. Run never changes it.
	Picture *frame.Frame
	Face    *face.Face
	// Inside reports whether the engine may change a pixel of Picture. If it is nil, that
	// is where LatentSync's mask is.
	Inside func(x, y int) bool
}

// Run checks the contract of lip.Engine.
func Run(t *testing.T, s Subject) {
	t.Run("a name, and no more held than it says", s.hold)
	t.Run("speech moves the mouth and nothing outside the mask", s.onlyInsideMask)
	t.Run("frames without a face stay as they are", s.withoutFace)
	t.Run("a cut forgets the past", s.cut)
	t.Run("a cancelled context stops the work", s.cancelled)
	t.Run("an estimate, and reports at any time", s.report)
	t.Run("a flush of nothing is allowed", func(t *testing.T) {
		if done, err := s.open(t).Flush(t.Context()); err != nil || len(done) > 0 {
			t.Errorf("%d items, %v", len(done), err)
		}
	})
	t.Run("closing twice is allowed", func(t *testing.T) {
		e := s.open(t)
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (s Subject) open(t *testing.T) lip.Engine {
	t.Helper()
	e := s.Open(t)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// Mouth returns the mouth at a frame of the suite, which opens and closes. Engines
// that need mouth shapes use it.
func Mouth(frame int64) audio.Mouth {
	shapes := []audio.Mouth{
		{}, {Open: 0.4, Speech: 1}, {Open: 0.9, Speech: 1}, {Open: 0.5, Round: 0.8, Speech: 1},
		{Open: 0.3, Close: 1, Speech: 1}, {Open: 0.4, Wide: 0.9, Speech: 1}, {Open: 0.2, Teeth: 1, Speech: 1},
	}
	return shapes[frame%int64(len(shapes))]
}

func (s Subject) items(n int) []lip.Item {
	items := make([]lip.Item, n)
	for i := range items {
		f := frame.New(s.Picture.Format)
		copy(f.Data, s.Picture.Data)
		f.Index = int64(i)
		items[i] = lip.Item{Frame: f, Face: s.Face, Cut: i == 0}
	}
	return items
}

// process runs the items through the engine, and flushes it; the frames are
// changed in place, the items themselves come back.
func process(t *testing.T, e lip.Engine, items []lip.Item) []lip.Item {
	t.Helper()
	var all []lip.Item
	take := func(done []lip.Item, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, done...)
	}
	for _, it := range items {
		take(e.Push(t.Context(), it))
	}
	take(e.Flush(t.Context()))
	if len(all) != len(items) {
		t.Fatalf("%d items went in, %d came out", len(items), len(all))
	}
	for i := range all {
		all[i].Composite()
		if all[i].Frame != items[i].Frame {
			t.Fatalf("item %d came out as number %d", all[i].Frame.Index, i)
		}
	}
	return all
}

func (s Subject) hold(t *testing.T) {
	e := s.open(t)
	if e.Name() == "" || e.Hold() < 0 {
		t.Errorf("Name %q, Hold %d", e.Name(), e.Hold())
	}
	held := 0
	for i, it := range s.items(2*e.Hold() + 3) {
		it.Cut = i == 0 || i == e.Hold()+1
		held++
		done, err := e.Push(t.Context(), it)
		if err != nil {
			t.Fatal(err)
		}
		if held -= len(done); held > e.Hold() {
			t.Fatalf("%d items are held, Hold says %d", held, e.Hold())
		}
	}
	done, err := e.Flush(t.Context())
	if err != nil || len(done) != held {
		t.Errorf("Flush gives %d of %d items, %v", len(done), held, err)
	}
}

func (s Subject) onlyInsideMask(t *testing.T) {
	e := s.open(t)
	items := s.items(7)
	process(t, e, items)
	inside := s.Inside
	if inside == nil {
		inside = s.insideTemplate()
	}
	for i, it := range items {
		moved, outside := false, 0
		for plane := range 3 {
			// A chroma sample may change if one of the luma pixels that it colours is
			// inside.
			sx, sy := it.Frame.ShiftX, it.Frame.ShiftY
			if plane == 0 {
				sx, sy = 0, 0
			}
			w, h := it.Frame.PlaneSize(plane)
			for y := range h {
				for x := range w {
					if it.Frame.Planes[plane][y*w+x] == s.Picture.Planes[plane][y*w+x] {
						continue
					}
					moved = moved || plane == 0
					if !inside(x<<sx, y<<sy) && !inside(x<<sx, y<<sy+sy) {
						outside++
					}
				}
			}
		}
		if outside > 0 {
			t.Errorf("frame %d: %d samples outside the mask changed", i, outside)
		}
		if !moved && Mouth(int64(i)).Open > 0.5 {
			t.Errorf("frame %d: nothing moved", i)
		}
	}
}

// insideTemplate returns what Inside is for LatentSync's mask.
func (s Subject) insideTemplate() func(x, y int) bool {
	// One template pixel each; bilinear edges reach one further.
	mask := face.MaskAlpha(face.TemplateW, face.TemplateH, 0)
	return func(x, y int) bool {
		tx, ty := s.Face.Align.Apply(float64(x), float64(y))
		for dy := -1; dy <= 2; dy++ {
			for dx := -1; dx <= 2; dx++ {
				mx, my := int(tx)+dx, int(ty)+dy
				if mx >= 0 && my >= 0 && mx < face.TemplateW && my < face.TemplateH && mask[my*face.TemplateW+mx] > 0 {
					return true
				}
			}
		}
		return false
	}
}

func (s Subject) withoutFace(t *testing.T) {
	e := s.open(t)
	items := s.items(e.Hold() + 5)
	for i := range items {
		if i%2 == 1 {
			items[i].Face = nil
		}
	}
	for i, it := range process(t, e, items) {
		if it.Face == nil && !bytes.Equal(it.Frame.Data, s.Picture.Data) {
			t.Errorf("frame %d has no face but was changed", i)
		}
	}
}

func (s Subject) cut(t *testing.T) {
	used, fresh := s.open(t), s.open(t)
	n := used.Hold() + 3
	before, a, b := s.items(n), s.items(n), s.items(n)
	process(t, used, append(before, a...))
	process(t, fresh, b)
	for i := range a {
		if !bytes.Equal(a[i].Frame.Data, b[i].Frame.Data) {
			t.Fatalf("frame %d after a cut differs from a new engine's", i)
		}
	}
}

func (s Subject) cancelled(t *testing.T) {
	e := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, it := range s.items(e.Hold() + 1) {
		if _, err := e.Push(ctx, it); err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want context.Canceled", err)
			}
			return
		}
	}
	t.Error("Push does not look at the context")
}

func (s Subject) report(t *testing.T) {
	e := s.open(t)
	estimate, err := e.Estimate(t.Context(), 100, 4)
	if err != nil || estimate.Seconds < 0 || (estimate.Plan == nil) != (e.Report().Plan == nil) {
		t.Errorf("estimate %+v, %v", estimate, err)
	}
	for _, stage := range estimate.Stages {
		if stage.Name == "" || stage.Per == "" || stage.Seconds < 0 {
			t.Errorf("stage %+v", stage)
		}
	}
	process(t, e, s.items(2*e.Hold()+3))
	done := make(chan lip.Report)
	go func() { done <- e.Report() }()
	r := <-done
	if r.Windows < 0 || r.Busy > r.Wall {
		t.Errorf("report %+v", r)
	}
	for i, w := range r.Work {
		if w.Name == "" || w.Calls < 0 || w.Busy < 0 {
			t.Errorf("part %d of the work is %+v", i, w)
		}
	}
}
