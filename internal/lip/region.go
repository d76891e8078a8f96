package lip

import (
	"image"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// Region is where and how opaquely an engine has changed a face in a frame: Alpha, [H, W], of 0
// to 1, lies over the frame, whose pixels Matrix maps to it. Outside it, and without Alpha,
// nothing has changed. Several frames may share Alpha, so it must not be changed.
type Region struct {
	Face   *face.Face
	W, H   int
	Alpha  []float32
	Matrix frame.Affine
}

// Bounds returns the box of the pixels of a w×h frame that may have an opacity above 0.
func (r Region) Bounds(w, h int) image.Rectangle {
	box := image.Rectangle{}
	for y := range r.H {
		for x, a := range r.Alpha[y*r.W : (y+1)*r.W] {
			if a > 0 {
				box = box.Union(image.Rect(x-1, y-1, x+2, y+2))
			}
		}
	}
	inv, ok := r.Matrix.Invert()
	if box.Empty() || !ok {
		return image.Rectangle{}
	}
	x0, y0, x1, y1 := inv.Bounds(float64(box.Min.X), float64(box.Min.Y), float64(box.Max.X-1), float64(box.Max.Y-1))
	limit := func(v float64, n int) int { return int(min(max(v, 0), float64(n))) }
	return image.Rect(limit(math.Floor(x0), w), limit(math.Floor(y0), h), limit(math.Ceil(x1)+1, w), limit(math.Ceil(y1)+1, h))
}

// Row fills dst with the opacities, times strength, of the pixels of row y from column x on.
// It interpolates as frame.Blend does, so that it is above 0 for the same pixels.
func (r Region) Row(dst []float32, x, y int, strength float32) {
	m := r.Matrix
	u0, v0 := m.B*float64(y)+m.C, m.E*float64(y)+m.F
	at := func(u, v int) float32 {
		if u < 0 || v < 0 || u >= r.W || v >= r.H {
			return 0
		}
		return r.Alpha[v*r.W+u]
	}
	for i := range dst {
		u, v := u0+m.A*float64(x+i), v0+m.D*float64(x+i)
		dst[i] = 0
		if !(u > -1 && v > -1 && u < float64(r.W) && v < float64(r.H)) {
			continue
		}
		iu, iv := int(u+1)-1, int(v+1)-1
		fu, fv := float32(u-float64(iu)), float32(v-float64(iv))
		w11 := fu * fv
		w01, w10 := fu-w11, fv-w11
		dst[i] = strength * (at(iu, iv)*(1-fu-fv+w11) + at(iu+1, iv)*w01 + at(iu, iv+1)*w10 + at(iu+1, iv+1)*w11)
	}
}
