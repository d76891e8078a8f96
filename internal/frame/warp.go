package frame

import (
	"math"
	"unsafe"
)

// Positions are stepped as integers with posBits binary places, so that a row
// of any length ends where the matrix says; the bilinear weights use the
// first weightBits of them, which is finer than a 256th of a grey level.
const (
	posBits    = 32
	weightBits = 11
	weightOne  = 1 << weightBits
	weightMask = weightOne - 1
)

// fixed converts a coordinate. What is far outside any picture, or not a
// number, becomes a position that is merely outside.
func fixed(v float64) int64 {
	const far = 1 << 24
	if !(v > -far) {
		v = -far
	} else if v > far {
		v = far
	}
	return int64(math.Round(v * (1 << posBits)))
}

// cover is the part, 0..weightOne, of a bilinear footprint between i and i+1
// (weight f on i+1) that lies in [0, n).
func cover(i, f, n int) int {
	switch {
	case i >= 0 && i < n-1:
		return weightOne
	case i == -1:
		return f
	case i == n-1:
		return weightOne - f
	}
	return 0
}

// weights returns the weights of the four taps of a bilinear footprint.
func weights[T int | int64](fx, fy T) (w00, w01, w10, w11 T) {
	w11 = fx * fy
	w01, w10 = fx<<weightBits-w11, fy<<weightBits-w11
	return weightOne*weightOne - w01 - w10 - w11, w01, w10, w11
}

// mixFill lays the fill value over the part of a footprint that is outside.
// Bilinear weights are separable, so repeating the edge first and mixing after
// is exactly the mean with the fill in the place of the taps outside.
func mixFill(p []byte, fill byte, cov int) {
	const one = weightOne * weightOne
	for c := range p {
		p[c] = byte((int(p[c])*cov + int(fill)*(one-cov) + one/2) >> (2 * weightBits))
	}
}

func clampInt(v, lo, hi int) int { return min(max(v, lo), hi) }

// Warp implements Source.
func (p *RGB) Warp(dst *RGB, m Affine, border Border, fill byte) {
	const half = 1 << (2*weightBits - 1)
	stepX, stepY := fixed(m.A), fixed(m.D)
	pix, w, h := p.Pix, p.W, p.H
	if w <= 0 || h <= 0 {
		return
	}
	for v := range dst.H {
		px, py := fixed(m.B*float64(v)+m.C), fixed(m.E*float64(v)+m.F)
		row := dst.Pix[3*v*dst.W : 3*(v+1)*dst.W]
		for ; len(row) >= 3; row, px, py = row[3:], px+stepX, py+stepY {
			ix, iy := int(px>>posBits), int(py>>posBits)
			fx, fy := int(px>>(posBits-weightBits))&weightMask, int(py>>(posBits-weightBits))&weightMask
			w00, w01, w10, w11 := weights(fx, fy)
			if uint(ix) < uint(w-1) && uint(iy) < uint(h-1) {
				at := 3 * (iy*w + ix)
				a := pix[at : at+6 : at+6]
				at += 3 * w
				b := pix[at : at+6 : at+6]
				row[0] = byte((int(a[0])*w00 + int(a[3])*w01 + int(b[0])*w10 + int(b[3])*w11 + half) >> (2 * weightBits))
				row[1] = byte((int(a[1])*w00 + int(a[4])*w01 + int(b[1])*w10 + int(b[4])*w11 + half) >> (2 * weightBits))
				row[2] = byte((int(a[2])*w00 + int(a[5])*w01 + int(b[2])*w10 + int(b[5])*w11 + half) >> (2 * weightBits))
				continue
			}
			if border == Constant && (ix < -1 || iy < -1 || ix >= w || iy >= h) {
				row[0], row[1], row[2] = fill, fill, fill
				continue
			}
			x0, x1 := 3*clampInt(ix, 0, w-1), 3*clampInt(ix+1, 0, w-1)
			y0, y1 := 3*w*clampInt(iy, 0, h-1), 3*w*clampInt(iy+1, 0, h-1)
			for c := range 3 {
				row[c] = byte((int(pix[y0+x0+c])*w00 + int(pix[y0+x1+c])*w01 +
					int(pix[y1+x0+c])*w10 + int(pix[y1+x1+c])*w11 + half) >> (2 * weightBits))
			}
			if border == Constant {
				mixFill(row[:3], fill, cover(ix, fx, w)*cover(iy, fy, h))
			}
		}
	}
}

// sample is one plane's element: a byte, or 16 bits in the machine's order,
// which is little endian on everything that Lipstream is built for.
type sample interface{ uint8 | uint16 }

// plane views plane i as samples.
func plane[T sample](f *Frame, i int) []T {
	p := f.Planes[i]
	if len(p) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&p[0])), len(p)/int(unsafe.Sizeof(T(0))))
}

// Warp implements Source. Luma is sampled at full resolution. Chroma is
// sampled at its own sites: in the column of every second luma sample and,
// where rows are subsampled, midway between two luma rows (the MPEG-2 siting
// that H.264, HEVC and AV1 files have unless they say otherwise).
func (f *Frame) Warp(dst *RGB, m Affine, border Border, fill byte) {
	if f.Width <= 0 || f.Height <= 0 {
		return
	}
	if f.SampleBytes() == 1 {
		warpYUV[uint8](f, dst, m, border, fill)
	} else {
		warpYUV[uint16](f, dst, m, border, fill)
	}
}

// toRGB has the integer factors from weighted plane samples to R,G,B:
// R = (Y·y + V·rv + r0) >> shift and so on, Y, U and V carrying 2·weightBits
// binary places.
type toRGB struct {
	y, rv, gu, gv, bu int64
	r0, g0, b0        int64 // offsets of luma and chroma, and half for rounding
}

const rgbShift = 2*weightBits + 14

func (f Format) toRGB() toRGB {
	c := f.coefficients()
	const one = 1 << 14
	q := func(v float64) int64 { return int64(math.Round(v * one)) }
	t := toRGB{
		y:  q(255 / c.yScale),
		rv: q(255 * 2 * (1 - c.kr) / c.cScale),
		bu: q(255 * 2 * (1 - c.kb) / c.cScale),
		gu: q(-255 * 2 * (1 - c.kb) * c.kb / c.kg / c.cScale),
		gv: q(-255 * 2 * (1 - c.kr) * c.kr / c.kg / c.cScale),
	}
	y0, c0 := int64(c.yZero)<<(2*weightBits), int64(c.cZero)<<(2*weightBits)
	half := int64(1) << (rgbShift - 1)
	t.r0 = half - t.y*y0 - t.rv*c0
	t.g0 = half - t.y*y0 - (t.gu+t.gv)*c0
	t.b0 = half - t.y*y0 - t.bu*c0
	return t
}

func clampByte(v int64) byte { return byte(min(max(v, 0), 255)) }

// between returns the numbers k, from first to before last, of 0 to n-1 for which start+k*step
// is at least low and less than high.
func between(start, step, low, high int64, n int) (first, last int) {
	if step < 0 { // mirrored
		start, step, low, high = -start, -step, 1-high, 1-low
	}
	if step == 0 {
		if start < low || start >= high {
			return 0, 0
		}
		return 0, n
	}
	reach := func(limit int64) int { // the first k that is not below limit
		if start >= limit {
			return 0
		}
		return int(min((limit-start+step-1)/step, int64(n)))
	}
	return reach(low), reach(high)
}

// taps returns the bilinear mean of the four samples around a position that is within the
// plane, with 2·weightBits binary places.
func taps[T sample](p []T, w int, px, py int64) int64 {
	at := int(py>>posBits)*w + int(px>>posBits)
	fx, fy := px>>(posBits-weightBits)&weightMask, py>>(posBits-weightBits)&weightMask
	a, b := p[at:at+2:at+2], p[at+w:at+w+2:at+w+2]
	top := int64(a[0])<<weightBits + (int64(a[1])-int64(a[0]))*fx
	bottom := int64(b[0])<<weightBits + (int64(b[1])-int64(b[0]))*fx
	return top<<weightBits + (bottom-top)*fy
}

// warp is a call of Warp.
type warp[T sample] struct {
	f            *Frame
	t            toRGB
	y, u, v      []T
	cw, ch       int   // size of the chroma planes
	sx, sy       uint  // shifts from luma to chroma
	siteY        int64 // rows of chroma lie lower by this
	stepX, stepY int64 // from pixel to pixel of a row
	border       Border
	fill         byte
}

// newWarp prepares a call of Warp.
func newWarp[T sample](f *Frame, m Affine, border Border, fill byte) *warp[T] {
	p := &warp[T]{
		f: f, t: f.toRGB(), y: plane[T](f, 0), u: plane[T](f, 1), v: plane[T](f, 2), sx: uint(f.ShiftX), sy: uint(f.ShiftY),
		stepX: fixed(m.A), stepY: fixed(m.D), border: border, fill: fill,
	}
	p.cw, p.ch = f.PlaneSize(1)
	if p.sy == 1 {
		p.siteY = 1 << (posBits - 2) // half a luma row
	}
	return p
}

func warpYUV[T sample](f *Frame, dst *RGB, m Affine, border Border, fill byte) {
	p := newWarp[T](f, m, border, fill)
	// The positions whose samples of luma and chroma are all within the planes.
	end := func(n int) int64 { return int64(n-1)<<posBits - 1 }
	left, right := int64(1)<<p.sx, min(end(f.Width), end(p.cw)<<p.sx)
	top, bottom := (1+p.siteY)<<p.sy, min(end(f.Height), (end(p.ch)+p.siteY)<<p.sy)
	for v := range dst.H {
		px, py := fixed(m.B*float64(v)+m.C), fixed(m.E*float64(v)+m.F)
		row := dst.Pix[3*v*dst.W : 3*(v+1)*dst.W]
		a, b := between(px, p.stepX, left, right, dst.W)
		c, d := between(py, p.stepY, top, bottom, dst.W)
		first := max(a, c)
		last := max(first, min(b, d))
		at := func(k int) (x, y int64) { return px + int64(k)*p.stepX, py + int64(k)*p.stepY }
		p.edges(row[:3*first], px, py)
		x, y := at(first)
		p.inside(row[3*first:3*last], x, y)
		x, y = at(last)
		p.edges(row[3*last:], x, y)
	}
}

// inside fills pixels all of whose samples are within the planes, from a position on.
func (p *warp[T]) inside(row []byte, px, py int64) {
	done := int64(warpRow[T](p.f, &p.t, row, px, py, p.stepX, p.stepY, p.siteY))
	row, px, py = row[3*done:], px+done*p.stepX, py+done*p.stepY
	w, t := p.f.Width, &p.t
	for ; len(row) >= 3; row, px, py = row[3:], px+p.stepX, py+p.stepY {
		cx, cy := px>>p.sx, py>>p.sy-p.siteY
		yy := taps(p.y, w, px, py) * t.y
		uu, vv := taps(p.u, p.cw, cx, cy), taps(p.v, p.cw, cx, cy)
		row[0] = clampByte((yy + vv*t.rv + t.r0) >> rgbShift)
		row[1] = clampByte((yy + uu*t.gu + vv*t.gv + t.g0) >> rgbShift)
		row[2] = clampByte((yy + uu*t.bu + t.b0) >> rgbShift)
	}
}

// edges fills pixels from a position on, wherever their samples are.
func (p *warp[T]) edges(row []byte, px, py int64) {
	yp, up, vp, t := p.y, p.u, p.v, &p.t
	w, h, cw, ch := p.f.Width, p.f.Height, p.cw, p.ch
	sx, sy, siteY, border, fill := p.sx, p.sy, p.siteY, p.border, p.fill
	for ; len(row) >= 3; row, px, py = row[3:], px+p.stepX, py+p.stepY {
		ix, iy := int(px>>posBits), int(py>>posBits)
		fx, fy := int64(px>>(posBits-weightBits))&weightMask, int64(py>>(posBits-weightBits))&weightMask
		outside := border == Constant && (ix < 0 || iy < 0 || ix >= w-1 || iy >= h-1)
		if outside && (ix < -1 || iy < -1 || ix >= w || iy >= h) {
			row[0], row[1], row[2] = fill, fill, fill
			continue
		}
		var yy, uu, vv int64
		w00, w01, w10, w11 := weights(fx, fy)
		if uint(ix) < uint(w-1) && uint(iy) < uint(h-1) {
			at := iy*w + ix
			a := yp[at : at+2 : at+2]
			b := yp[at+w : at+w+2 : at+w+2]
			yy = int64(a[0])*w00 + int64(a[1])*w01 + int64(b[0])*w10 + int64(b[1])*w11
		} else {
			x0, x1 := clampInt(ix, 0, w-1), clampInt(ix+1, 0, w-1)
			y0, y1 := w*clampInt(iy, 0, h-1), w*clampInt(iy+1, 0, h-1)
			yy = int64(yp[y0+x0])*w00 + int64(yp[y0+x1])*w01 + int64(yp[y1+x0])*w10 + int64(yp[y1+x1])*w11
		}
		cx, cy := px>>sx, py>>sy-siteY
		jx, jy := int(cx>>posBits), int(cy>>posBits)
		gx, gy := int64(cx>>(posBits-weightBits))&weightMask, int64(cy>>(posBits-weightBits))&weightMask
		w00, w01, w10, w11 = weights(gx, gy)
		if uint(jx) < uint(cw-1) && uint(jy) < uint(ch-1) {
			at := jy*cw + jx
			a, b := up[at:at+2:at+2], up[at+cw:at+cw+2:at+cw+2]
			uu = int64(a[0])*w00 + int64(a[1])*w01 + int64(b[0])*w10 + int64(b[1])*w11
			a, b = vp[at:at+2:at+2], vp[at+cw:at+cw+2:at+cw+2]
			vv = int64(a[0])*w00 + int64(a[1])*w01 + int64(b[0])*w10 + int64(b[1])*w11
		} else {
			x0, x1 := clampInt(jx, 0, cw-1), clampInt(jx+1, 0, cw-1)
			y0, y1 := cw*clampInt(jy, 0, ch-1), cw*clampInt(jy+1, 0, ch-1)
			uu = int64(up[y0+x0])*w00 + int64(up[y0+x1])*w01 + int64(up[y1+x0])*w10 + int64(up[y1+x1])*w11
			vv = int64(vp[y0+x0])*w00 + int64(vp[y0+x1])*w01 + int64(vp[y1+x0])*w10 + int64(vp[y1+x1])*w11
		}
		yy *= t.y
		row[0] = clampByte((yy + vv*t.rv + t.r0) >> rgbShift)
		row[1] = clampByte((yy + uu*t.gu + vv*t.gv + t.g0) >> rgbShift)
		row[2] = clampByte((yy + uu*t.bu + t.b0) >> rgbShift)
		if outside {
			mixFill(row[:3], fill, cover(ix, int(fx), w)*cover(iy, int(fy), h))
		}
	}
}
