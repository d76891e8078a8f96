package lip

import (
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// counted counts how often it is pasted, and remembers into which frame.
type counted struct {
	times int
	into  *frame.Frame
}

func (c *counted) Paste(f *frame.Frame) Region {
	c.times, c.into = c.times+1, f
	return Region{W: c.times}
}

func TestComposite(t *testing.T) {
	l := &counted{}
	it := Item{Frame: frame.New(frame.Format{Width: 8, Height: 8, Depth: 8}), Layer: l}
	for range 2 { // a layer may be pasted only once
		it.Composite()
		if l.times != 1 || l.into != it.Frame || it.Layer != nil || len(it.Regions) != 1 || it.Regions[0].W != 1 {
			t.Fatalf("pasted %d times, layer %v", l.times, it.Layer)
		}
	}
}
