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

// within reports whether positions from at to at+way have both of their neighbours among
// n samples. The margin at the end allows for rounding.
func within(at, way int64, n int) bool {
	return min(at, at+way) >= 1 && max(at, at+way) < int64(n-1)<<posBits-1
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

func warpYUV[T sample](f *Frame, dst *RGB, m Affine, border Border, fill byte) {
	t := f.toRGB()
	yp, up, vp := plane[T](f, 0), plane[T](f, 1), plane[T](f, 2)
	w, h := f.Width, f.Height
	cw, ch := f.PlaneSize(1)
	sx, sy := uint(f.ShiftX), uint(f.ShiftY)
	var siteY int64 // rows of chroma lie half a luma row lower
	if sy == 1 {
		siteY = 1 << (posBits - 2)
	}
	stepX, stepY := fixed(m.A), fixed(m.D)
	for v := range dst.H {
		px, py := fixed(m.B*float64(v)+m.C), fixed(m.E*float64(v)+m.F)
		row := dst.Pix[3*v*dst.W : 3*(v+1)*dst.W]
		n := int64(dst.W - 1)
		if within(px, n*stepX, w) && within(py, n*stepY, h) &&
			within(px>>sx, n*stepX>>sx, cw) && within(py>>sy-siteY, n*stepY>>sy, ch) {
			done := warpRow[T](f, &t, row, px, py, stepX, stepY, siteY)
			row, px, py = row[3*done:], px+int64(done)*stepX, py+int64(done)*stepY
			for ; len(row) >= 3; row, px, py = row[3:], px+stepX, py+stepY {
				cx, cy := px>>sx, py>>sy-siteY
				yy := taps(yp, w, px, py) * t.y
				uu, vv := taps(up, cw, cx, cy), taps(vp, cw, cx, cy)
				row[0] = clampByte((yy + vv*t.rv + t.r0) >> rgbShift)
				row[1] = clampByte((yy + uu*t.gu + vv*t.gv + t.g0) >> rgbShift)
				row[2] = clampByte((yy + uu*t.bu + t.b0) >> rgbShift)
			}
			continue
		}
		for ; len(row) >= 3; row, px, py = row[3:], px+stepX, py+stepY {
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
}
