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

// Subject is an engine with input that suits it.
type Subject struct {
	Open func(t *testing.T) lip.Engine
	// Picture is a frame that shows Face; it is copied, never changed.
	Picture *frame.Frame
	Face    *face.Face
}

// Run checks the contract of lip.Engine.
func Run(t *testing.T, s Subject) {
	t.Run("a name and a chunk size", func(t *testing.T) {
		e := s.open(t)
		if e.Name() == "" || e.Chunk() < 1 {
			t.Errorf("Name %q, Chunk %d", e.Name(), e.Chunk())
		}
	})
	t.Run("speech moves the mouth and nothing outside the mask", s.onlyInsideMask)
	t.Run("frames without a face stay as they are", s.withoutFace)
	t.Run("the result does not depend on the chunking", s.chunking)
	t.Run("a cut forgets the past", s.cut)
	t.Run("a cancelled context stops the work", s.cancelled)
	t.Run("an empty chunk is allowed", func(t *testing.T) {
		if err := s.open(t).Process(t.Context(), nil); err != nil {
			t.Error(err)
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

// syllables is a mouth that opens and closes.
func syllables(i int) audio.Mouth {
	shapes := []audio.Mouth{
		{}, {Open: 0.4, Speech: 1}, {Open: 0.9, Speech: 1}, {Open: 0.5, Round: 0.8, Speech: 1},
		{Open: 0.3, Close: 1, Speech: 1}, {Open: 0.4, Wide: 0.9, Speech: 1}, {Open: 0.2, Teeth: 1, Speech: 1},
	}
	return shapes[i%len(shapes)]
}

func (s Subject) items(n int) []lip.Item {
	items := make([]lip.Item, n)
	for i := range items {
		f := frame.New(s.Picture.Format)
		copy(f.Data, s.Picture.Data)
		f.Index = int64(i)
		items[i] = lip.Item{Frame: f, Face: s.Face, Mouth: syllables(i), Cut: i == 0}
	}
	return items
}

// process runs the items through the engine in chunks of n.
func process(t *testing.T, e lip.Engine, items []lip.Item, n int) {
	t.Helper()
	for len(items) > 0 {
		k := min(n, len(items))
		if err := e.Process(t.Context(), items[:k]); err != nil {
			t.Fatal(err)
		}
		items = items[k:]
	}
}

func (s Subject) onlyInsideMask(t *testing.T) {
	e := s.open(t)
	items := s.items(max(7, e.Chunk()))
	process(t, e, items, e.Chunk())
	// One template pixel each; bilinear edges reach one further.
	mask := face.MaskAlpha(face.TemplateW, face.TemplateH, 0)
	inside := func(x, y int) bool {
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
	for i, it := range items {
		changed, outside := 0, 0
		w, h := it.Frame.Size()
		for y := range h {
			for x := range w {
				if it.Frame.Planes[0][y*w+x] != s.Picture.Planes[0][y*w+x] {
					changed++
					if !inside(x, y) {
						outside++
					}
				}
			}
		}
		outside += s.chromaOutside(it.Frame, inside)
		if outside > 0 {
			t.Errorf("frame %d: %d pixels outside the mask changed", i, outside)
		}
		if changed == 0 && it.Mouth.Open > 0.5 {
			t.Errorf("frame %d: nothing moved", i)
		}
	}
}

// chromaOutside counts the chroma samples that changed though none of the luma
// pixels that they colour is inside the mask.
func (s Subject) chromaOutside(f *frame.Frame, inside func(x, y int) bool) (n int) {
	for plane := 1; plane < 3; plane++ {
		w, h := f.PlaneSize(plane)
		for y := range h {
			for x := range w {
				if f.Planes[plane][y*w+x] != s.Picture.Planes[plane][y*w+x] &&
					!inside(x<<f.ShiftX, y<<f.ShiftY) && !inside(x<<f.ShiftX, y<<f.ShiftY+f.ShiftY) {
					n++
				}
			}
		}
	}
	return n
}

func (s Subject) withoutFace(t *testing.T) {
	e := s.open(t)
	items := s.items(e.Chunk() + 2)
	for i := range items {
		if i%2 == 1 {
			items[i].Face = nil
		}
	}
	process(t, e, items, e.Chunk())
	for i, it := range items {
		if it.Face == nil && !bytes.Equal(it.Frame.Data, s.Picture.Data) {
			t.Errorf("frame %d has no face but was changed", i)
		}
	}
}

func (s Subject) chunking(t *testing.T) {
	whole, single := s.open(t), s.open(t)
	if whole.Chunk() == 1 {
		t.Skip("works frame by frame")
	}
	n := 2*whole.Chunk() + 1
	a, b := s.items(n), s.items(n)
	process(t, whole, a, whole.Chunk())
	process(t, single, b, 1)
	for i := range a {
		if !bytes.Equal(a[i].Frame.Data, b[i].Frame.Data) {
			t.Fatalf("frame %d differs between chunks of %d and of 1", i, whole.Chunk())
		}
	}
}

func (s Subject) cut(t *testing.T) {
	used, fresh := s.open(t), s.open(t)
	process(t, used, s.items(used.Chunk()), used.Chunk())
	a, b := s.items(fresh.Chunk()), s.items(fresh.Chunk())
	process(t, used, a, used.Chunk())
	process(t, fresh, b, fresh.Chunk())
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
	if err := e.Process(ctx, s.items(e.Chunk())); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
