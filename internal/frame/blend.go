package frame

import (
	"math"
	"sync"
)

// Blend lays src over the frame. m maps frame pixels to src pixels, alpha has
// src.W·src.H values in 0..1. For each frame pixel whose sampled alpha is above
// 0, Y' = Y + a·(Yn - Y) in the frame's own planes, at its own depth; a chroma
// sample takes the mean alpha and the alpha-weighted mean colour of the luma
// pixels around its site. Luma where alpha is 0, and chroma all of whose
// covered luma pixels have alpha 0, stay bit-identical. Outside src alpha is 0.
//
// Blend works in the caller's goroutine; different frames may be blended in
// parallel.
func (f *Frame) Blend(src *RGB, alpha []float32, m Affine) {
	if len(alpha) != src.W*src.H {
		panic("frame: blend of a picture with an alpha of another size")
	}
	x0, y0, x1, y1, ok := f.blendBox(src.W, src.H, alpha, m)
	if !ok {
		return
	}
	if f.SampleBytes() == 1 {
		blendYUV[uint8](f, src, alpha, m, x0, y0, x1, y1)
	} else {
		blendYUV[uint16](f, src, alpha, m, x0, y0, x1, y1)
	}
}

// blendBox returns the part of the frame that can see alpha above 0, as a half-open
// rectangle that begins on a chroma sample.
func (f *Frame) blendBox(w, h int, alpha []float32, m Affine) (x0, y0, x1, y1 int, ok bool) {
	top, bottom, left, right := h, -1, w, -1
	for y := range h {
		row := alpha[y*w : (y+1)*w]
		for x, a := range row {
			if a > 0 {
				top, bottom = min(top, y), y
				left, right = min(left, x), max(right, x)
			}
		}
	}
	inv, invertible := m.Invert()
	if bottom < 0 || !invertible {
		return 0, 0, 0, 0, false
	}
	minX, minY, maxX, maxY := inv.Bounds(float64(left-1), float64(top-1), float64(right+1), float64(bottom+1))
	// The negated comparisons also refuse NaN.
	if !(maxX > -1 && maxY > -1 && minX < float64(f.Width) && minY < float64(f.Height)) {
		return 0, 0, 0, 0, false
	}
	x0 = int(math.Max(0, math.Floor(minX))) >> f.ShiftX << f.ShiftX
	y0 = int(math.Max(0, math.Floor(minY))) >> f.ShiftY << f.ShiftY
	x1 = int(math.Min(float64(f.Width), math.Ceil(maxX)+1))
	y1 = int(math.Min(float64(f.Height), math.Ceil(maxY)+1))
	return x0, y0, x1, y1, x0 < x1 && y0 < y1
}

// chromaRows holds, for one row of chroma samples, alpha and alpha-weighted
// colour of the luma pixels: element x of the luma row at 4x: alpha, a·R, a·G,
// a·B summed over the luma rows that the chroma row covers.
var chromaRows = sync.Pool{New: func() any { return new([]float32) }}

func blendYUV[T sample](f *Frame, src *RGB, alpha []float32, m Affine, x0, y0, x1, y1 int) {
	c, yZero, cZero := f.fromRGB()
	yp := plane[T](f, 0)
	limit := float32(int(1)<<f.Depth - 1)
	sw, sh := src.W, src.H
	pix := src.Pix
	buf := chromaRows.Get().(*[]float32)
	defer chromaRows.Put(buf)
	n := 4 * (x1 - x0)
	if cap(*buf) < n {
		*buf = make([]float32, n)
	}
	sums := (*buf)[:n]
	rows := 1 << f.ShiftY
	for y := y0; y < y1; y += rows {
		clear(sums)
		any := false
		for yy := y; yy < min(y+rows, y1); yy++ {
			u0, v0 := m.B*float64(yy)+m.C, m.E*float64(yy)+m.F
			for x := x0; x < x1; x++ {
				u, v := u0+m.A*float64(x), v0+m.D*float64(x)
				if !(u > -1 && v > -1 && u < float64(sw) && v < float64(sh)) {
					continue
				}
				iu, iv := int(u+1)-1, int(v+1)-1
				fu, fv := float32(u-float64(iu)), float32(v-float64(iv))
				w11 := fu * fv
				w01, w10 := fu-w11, fv-w11
				w00 := 1 - fu - fv + w11
				var a, r, g, b float32
				if uint(iu) < uint(sw-1) && uint(iv) < uint(sh-1) {
					at := iv*sw + iu
					p, q := alpha[at:at+2:at+2], alpha[at+sw:at+sw+2:at+sw+2]
					a = p[0]*w00 + p[1]*w01 + q[0]*w10 + q[1]*w11
					if !(a > 0) {
						continue
					}
					s, t := pix[3*at:3*at+6:3*at+6], pix[3*(at+sw):3*(at+sw)+6:3*(at+sw)+6]
					r = float32(s[0])*w00 + float32(s[3])*w01 + float32(t[0])*w10 + float32(t[3])*w11
					g = float32(s[1])*w00 + float32(s[4])*w01 + float32(t[1])*w10 + float32(t[4])*w11
					b = float32(s[2])*w00 + float32(s[5])*w01 + float32(t[2])*w10 + float32(t[5])*w11
				} else {
					a, r, g, b = edgeTaps(src, alpha, iu, iv, [4]float32{w00, w01, w10, w11})
					if !(a > 0) {
						continue
					}
				}
				any = true
				yn := c[0][0]*r + c[0][1]*g + c[0][2]*b + yZero
				at := yy*f.Width + x
				old := float32(yp[at])
				yp[at] = T(clampRound(old+a*(yn-old), limit))
				s := sums[4*(x-x0) : 4*(x-x0)+4]
				s[0] += a
				s[1] += a * r
				s[2] += a * g
				s[3] += a * b
			}
		}
		if any {
			blendChroma[T](f, sums, x0, x1, y, min(rows, f.Height-y), c, cZero)
		}
	}
}

// blendChroma blends the chroma row under luma row y from the collected sums.
// Subsampled columns are weighted 1 2 1 around their site, the even luma
// column, so that colour does not move sideways.
func blendChroma[T sample](f *Frame, sums []float32, x0, x1, y, rows int, c fromRGB, cZero float32) {
	up, vp := plane[T](f, 1), plane[T](f, 2)
	cw, _ := f.PlaneSize(1)
	limit := float32(int(1)<<f.Depth - 1)
	step := 1 << f.ShiftX
	at := (y>>f.ShiftY)*cw + x0>>f.ShiftX
	norm := 1 / float32(rows)
	for i := 0; i < 4*(x1-x0); i, at = i+4*step, at+1 {
		s := [4]float32(sums[i : i+4])
		if step == 2 {
			var l, r [4]float32
			switch {
			case i >= 4:
				l = [4]float32(sums[i-4 : i])
			case x0 == 0: // no column to the left in the picture
				l = s
			}
			switch {
			case i+8 <= len(sums):
				r = [4]float32(sums[i+4 : i+8])
			case x1 == f.Width:
				r = s
			}
			if s[0] == 0 && r[0] == 0 {
				continue // none of the covered pixels is blended
			}
			for k := range s {
				s[k] = 0.25*l[k] + 0.5*s[k] + 0.25*r[k]
			}
		} else if s[0] == 0 {
			continue
		}
		a := s[0] * norm
		// With ac = sum of a·colour: C + a·(Cn - C), Cn = ac/a, is
		// C + ac - a·C, without a division.
		un := (c[1][0]*s[1]+c[1][1]*s[2]+c[1][2]*s[3])*norm + a*cZero
		vn := (c[2][0]*s[1]+c[2][1]*s[2]+c[2][2]*s[3])*norm + a*cZero
		u, v := float32(up[at]), float32(vp[at])
		up[at] = T(clampRound(u+un-a*u, limit))
		vp[at] = T(clampRound(v+vn-a*v, limit))
	}
}

func clampRound(v, limit float32) float32 {
	v += 0.5
	if !(v > 0) { // also NaN
		return 0
	}
	return min(v, limit) // the conversion to an integer truncates
}

// edgeTaps samples where a tap is outside src: alpha is 0 there and colour
// repeats the edge.
func edgeTaps(src *RGB, alpha []float32, iu, iv int, w [4]float32) (a, r, g, b float32) {
	for k := range 4 {
		u, v := iu+k&1, iv+k>>1
		cu, cv := clampInt(u, 0, src.W-1), clampInt(v, 0, src.H-1)
		at := cv*src.W + cu
		if u == cu && v == cv {
			a += w[k] * alpha[at]
		}
		p := src.Pix[3*at : 3*at+3]
		r += w[k] * float32(p[0])
		g += w[k] * float32(p[1])
		b += w[k] * float32(p[2])
	}
	return a, r, g, b
}
