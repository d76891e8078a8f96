package frame

import (
	"image"
	"math"
)

// RGB is a packed 8-bit R,G,B picture, row-major, without row padding.
type RGB struct {
	W, H int
	Pix  []byte // 3·W·H
}

// NewRGB allocates a black picture.
func NewRGB(w, h int) *RGB { return &RGB{W: w, H: h, Pix: make([]byte, 3*w*h)} }

// Image converts to the standard library's type, for PNG files.
func (p *RGB) Image() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, p.W, p.H))
	for i, j := 0, 0; i < len(p.Pix); i, j = i+3, j+4 {
		m.Pix[j], m.Pix[j+1], m.Pix[j+2], m.Pix[j+3] = p.Pix[i], p.Pix[i+1], p.Pix[i+2], 255
	}
	return m
}

// Half returns the picture at half its size, each pixel the mean of four.
func (p *RGB) Half() *RGB {
	q := NewRGB(p.W/2, p.H/2)
	for y := range q.H {
		for x := range q.W {
			for c := range 3 {
				i := 3*(2*y*p.W+2*x) + c
				j := i + 3*p.W
				q.Pix[3*(y*q.W+x)+c] = byte((int(p.Pix[i]) + int(p.Pix[i+3]) + int(p.Pix[j]) + int(p.Pix[j+3]) + 2) / 4)
			}
		}
	}
	return q
}

// Affine maps (x, y) to (A·x + B·y + C, D·x + E·y + F). Pixel centres are at
// integer coordinates.
type Affine struct{ A, B, C, D, E, F float64 }

// Apply maps a point.
func (m Affine) Apply(x, y float64) (float64, float64) {
	return m.A*x + m.B*y + m.C, m.D*x + m.E*y + m.F
}

// Bounds returns the box around what a rectangle is mapped to.
func (m Affine) Bounds(left, top, right, bottom float64) (minX, minY, maxX, maxY float64) {
	minX, minY, maxX, maxY = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, u := range [2]float64{left, right} {
		for _, v := range [2]float64{top, bottom} {
			x, y := m.Apply(u, v)
			minX, minY, maxX, maxY = min(minX, x), min(minY, y), max(maxX, x), max(maxY, y)
		}
	}
	return minX, minY, maxX, maxY
}

// Invert returns the inverse; ok is false when m is singular.
func (m Affine) Invert() (inv Affine, ok bool) {
	det := m.A*m.E - m.B*m.D
	if det == 0 || det != det {
		return Affine{}, false
	}
	inv = Affine{A: m.E / det, B: -m.B / det, D: -m.D / det, E: m.A / det}
	inv.C = -(inv.A*m.C + inv.B*m.F)
	inv.F = -(inv.D*m.C + inv.E*m.F)
	return inv, true
}

// Border says what a sample outside the picture is.
type Border int

// Replicate repeats the edge; Constant takes the fill value, weighted by the
// part of the bilinear footprint that lies outside.
const (
	Replicate Border = iota
	Constant
)

// Source is a picture that can be sampled as R,G,B: *RGB or *Frame.
type Source interface {
	Size() (w, h int)
	// Warp fills dst: dst(u,v) = source(m(u,v)), bilinear, rounded to the
	// nearest integer. fill is used with Constant, per channel.
	Warp(dst *RGB, m Affine, border Border, fill byte)
}

// Size of the picture.
func (p *RGB) Size() (w, h int) { return p.W, p.H }

// Size of the luma plane.
func (f *Frame) Size() (w, h int) { return f.Width, f.Height }
