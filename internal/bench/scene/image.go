package scene

import (
	"image"
	"image/draw"

	"github.com/lipstream/lipstream/internal/frame"
)

// FromImage converts an image to 8-bit R,G,B.
func FromImage(m image.Image) *frame.RGB {
	b := m.Bounds()
	rgba := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(rgba, rgba.Rect, m, b.Min, draw.Src)
	return (&canvas{rgba: rgba}).image()
}
