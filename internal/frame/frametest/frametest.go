// Package frametest has helpers for tests that work on images.
package frametest

import (
	"image"
	"image/color"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

// FromImage converts any image. It drops alpha without blending.
func FromImage(m image.Image) *frame.RGB {
	b := m.Bounds()
	p := frame.NewRGB(b.Dx(), b.Dy())
	i := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
			p.Pix[i], p.Pix[i+1], p.Pix[i+2] = c.R, c.G, c.B
			i += 3
		}
	}
	return p
}

// Fill fills a frame from a picture of its size.
func Fill(f *frame.Frame, p *frame.RGB) {
	f.Blend(p, slices.Repeat([]float32{1}, p.W*p.H), frame.Affine{A: 1, E: 1})
}
