package preview

import (
	"image"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// The mask in template coordinates at this many pixels a template unit, and
// the width of its soft edge in template units.
const (
	maskW, maskH = face.TemplateW, face.TemplateH
	maskFeather  = 14
)

// mask is the engine's mask over the template.
type mask struct {
	alpha []float32
	solid []byte           // at how many places from here on, to the right, it is 1 around them
	floor [maskW]float32   // the mask's lowest row in each column
	reach [sides]halfPlane // around where the mask is above 0
}

// halfPlane has the points (x, y) with nx*x + ny*y <= limit.
type halfPlane struct{ nx, ny, limit float64 }

// sides is the number of sides of the polygon around the mask.
const sides = 16

func newMask() *mask {
	m := &mask{alpha: face.MaskAlpha(maskW, maskH, maskFeather)}
	m.solid = make([]byte, len(m.alpha))
	for i := len(m.alpha) - maskW - 2; i >= 0; i-- {
		if min(m.alpha[i], m.alpha[i+1], m.alpha[i+maskW], m.alpha[i+maskW+1]) == 1 {
			m.solid[i] = m.solid[i+1] + 1
		}
	}
	for k := range m.reach {
		sin, cos := math.Sincos(2 * math.Pi * float64(k) / sides)
		m.reach[k] = halfPlane{cos, sin, math.Inf(-1)}
	}
	for i, a := range m.alpha {
		if a == 0 {
			continue
		}
		x, y := float64(i%maskW), float64(i/maskW)
		m.floor[i%maskW] = float32(y)
		for k := range m.reach {
			h := &m.reach[k]
			// Up to one unit farther, interpolation finds more than 0.
			h.limit = max(h.limit, h.nx*x+h.ny*y+math.Sqrt2)
		}
	}
	return m
}

// maskRegion returns the part of the frame that the mask can touch.
func maskRegion(f *frame.Frame, align frame.Affine) image.Rectangle {
	inv, ok := align.Invert()
	if !ok {
		return image.Rectangle{}
	}
	// The mask fills the template below its upper third.
	x0, y0, x1, y1 := inv.Bounds(0, 0.36*maskH, maskW, 0.96*maskH)
	r := image.Rect(int(math.Floor(x0)), int(math.Floor(y0)), int(math.Ceil(x1))+1, int(math.Ceil(y1))+1)
	return r.Intersect(image.Rect(0, 0, f.Width, f.Height))
}

// cover sets the spans of the field to the polygon around the mask.
func (m *mask) cover(f *field, align frame.Affine) {
	var slope, inverse [sides]float64
	for k, h := range m.reach {
		slope[k] = -h.nx*align.A - h.ny*align.D
		inverse[k] = 1 / slope[k]
	}
	for i := range f.spans {
		x, y := align.Apply(float64(f.Min.X), float64(f.Min.Y+i))
		lo, hi := 0.0, float64(f.Dx()-1)
		for k, h := range m.reach {
			lo, hi = notBelow(lo, hi, h.limit-h.nx*x-h.ny*y, inverse[k])
		}
		f.spans[i] = span{f.Min.X, f.Min.X}
		if lo <= hi {
			f.spans[i] = span{f.Min.X + int(lo), f.Min.X + int(hi) + 1}
		}
	}
}

// steep bounds the displacement of a pixel, in parts of its distance to the mask's lower
// edge.
const steep = 0.75

// attenuate fades the displacement out towards the edge of the mask. Fading
// the movement instead of blending two pictures leaves no double contours. A
// closing jaw moves far, and would fold where it fades that fast: no pixel
// comes from more than steep of its distance to the mask's lower edge.
func (m *mask) attenuate(f *field, align frame.Affine) {
	const block = 16
	scale := steep / math.Sqrt(math.Abs(align.A*align.E-align.B*align.D)) // pixels
	for i, s := range f.spans {
		dx, dy := f.row(f.Min.Y+i, s)
		x, y := align.Apply(float64(s.left), float64(f.Min.Y+i))
		for len(dx) > 0 {
			n := min(block, len(dx))
			endX, endY := x+float64(n-1)*align.A, y+float64(n-1)*align.D
			if min(x, y, endX, endY) < 1 || max(x, endX) >= maskW-1 || max(y, endY) >= maskH-1 {
				m.fadeEdge(dx[:n], dy[:n], x, y, scale, align)
			} else if most, ok := m.least(x, y, endX, endY, scale); !ok || exceeds(dy[:n], 0.5*most) {
				m.fade(dx[:n], dy[:n], x, y, scale, align)
			}
			dx, dy = dx[n:], dy[n:]
			x += float64(n) * align.A
			y += float64(n) * align.D
		}
	}
}

// least returns the least bound, in pixels, of the displacement between two places of the
// template. ok is false if the mask is not solid there.
func (m *mask) least(x0, y0, x1, y1, scale float64) (most float32, ok bool) {
	left, right := int(min(x0, x1)), int(max(x0, x1))
	for y := int(min(y0, y1)); y <= int(max(y0, y1)); y++ {
		if int(m.solid[y*maskW+left]) <= right-left {
			return 0, false
		}
	}
	floor := m.floor[left]
	for _, v := range m.floor[left : right+1] {
		floor = min(floor, v)
	}
	return float32(scale) * max(floor-float32(max(y0, y1)), 0.1), true
}

// exceeds reports whether a value is larger than most.
func exceeds(values []float32, most float32) bool {
	for _, v := range values {
		if v > most {
			return true
		}
	}
	return false
}

// fadeEdge attenuates pixels of a row, some of which are outside the template.
func (m *mask) fadeEdge(dx, dy []float32, x, y, scale float64, align frame.Affine) {
	for i := range dx {
		if x >= 0 && y >= 0 && x < maskW-1 && y < maskH-1 {
			m.fade(dx[i:i+1], dy[i:i+1], x, y, scale, align)
		} else {
			dx[i], dy[i] = 0, 0
		}
		x += align.A
		y += align.D
	}
}

// The fixed-point positions of fade.
const (
	one  = 1 << bits
	bits = 20
)

// fade attenuates pixels of a row, of which the first is at (x, y) in the template.
func (m *mask) fade(dx, dy []float32, x, y, scale float64, align frame.Affine) {
	u, v := int(x*one), int(y*one)
	du, dv := int(align.A*one), int(align.D*one)
	n := m.fastFade(dx, dy, u, v, du, dv, float32(scale))
	m.fadeSlow(dx[n:], dy[n:], u+n*du, v+n*dv, du, dv, float32(scale))
}

// fadeSlow does the work of fade, with fixed-point positions.
func (m *mask) fadeSlow(dx, dy []float32, u, v, du, dv int, scale float32) {
	dy = dy[:len(dx)]
	for i := range dx {
		d := dy[i]
		if d != 0 || dx[i] != 0 {
			column, at := u>>bits, v>>bits*maskW+u>>bits
			fx, fy := float32(u&(one-1))*(1.0/one), float32(v&(one-1))*(1.0/one)
			p, q := m.alpha[at:at+2:at+2], m.alpha[at+maskW:at+maskW+2:at+maskW+2]
			top, bottom := p[0]+float32((p[1]-p[0])*fx), q[0]+float32((q[1]-q[0])*fx)
			a := top + float32((bottom-top)*fy)
			if d > 0 && a > 0 {
				most := scale * max(m.floor[column]-float32(float32(v)*(1.0/one)), 0.1)
				if d*a > 0.5*most { // without a division, which most pixels do not need
					q := d * a / most
					q = float32(q * (q * q * q))
					a /= float32(math.Sqrt(math.Sqrt(float64(1 + q))))
				}
			}
			dx[i] *= a
			dy[i] = d * a
		}
		u += du
		v += dv
	}
}
