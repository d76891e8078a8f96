package lip

import (
	"bytes"
	"image"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// TestRegionIsWhatBlendChanges checks that Row is above 0 for the pixels that a blend with
// the same opacity changes, and for no others, and that Bounds has them all.
func TestRegionIsWhatBlendChanges(t *testing.T) {
	const w, h = 60, 40
	alpha := make([]float32, 9*7)
	for i := range alpha {
		if x, y := i%9, i/9; x > 1 && x < 7 && y > 2 {
			alpha[i] = float32(1+i%3) / 3
		}
	}
	white := &frame.RGB{W: 9, H: 7, Pix: bytes.Repeat([]byte{255}, 3*9*7)}
	for _, m := range []frame.Affine{
		{A: 1, C: -20, E: 1, F: -10}, {A: 0.31, B: 0.1, C: -3, D: -0.1, E: 0.31, F: 0.5}, {A: -0.5, C: 20.25, E: -0.5, F: 9}, {A: 1, C: 500, E: 1},
	} {
		r := Region{W: 9, H: 7, Alpha: alpha, Matrix: m}
		f := frame.New(frame.Format{Width: w, Height: h, Depth: 8, FullRange: true})
		f.Blend(white, alpha, m)
		box := r.Bounds(w, h)
		changed := image.Rectangle{}
		row := make([]float32, w)
		for y := range h {
			r.Row(row, 0, y, 1)
			for x, a := range row {
				v := float32(f.Planes[0][y*w+x]) / 255
				if d := v - a; d < -0.01 || d > 0.01 {
					t.Fatalf("%+v: pixel %d,%d is %g opaque, but became %g white", m, x, y, a, v)
				}
				if a > 0 {
					changed = changed.Union(image.Rect(x, y, x+1, y+1))
				}
			}
			half := make([]float32, w-10)
			r.Row(half, 10, y, 0.5)
			if i := slices.IndexFunc(half, func(a float32) bool { return a > 0.5 }); i >= 0 {
				t.Fatalf("%+v: half as strong, pixel %d,%d is %g opaque", m, i+10, y, half[i])
			}
		}
		if !changed.In(box) || box.Dx() > changed.Dx()+8 || box.Dy() > changed.Dy()+8 {
			t.Errorf("%+v: the box is %v, but %v changes", m, box, changed)
		}
	}
	if box := (Region{}).Bounds(w, h); !box.Empty() {
		t.Errorf("the box of nothing is %v", box)
	}
}
