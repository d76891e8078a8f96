package bench

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"

	xdraw "golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"github.com/lipstream/lipstream/internal/bench/scene"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

const (
	tileSide, tileText = 240, 34 // pixels of a case on the sheet: the frame, and two lines below it
	sheetColumns       = 8
)

// sheet is a picture with one frame of each case.
type sheet struct{ tiles []*image.RGBA }

// add draws a frame with the face found in it, if any.
func (s *sheet) add(p *frame.RGB, found *face.Face, c FacesCase) {
	t := image.NewRGBA(image.Rect(0, 0, tileSide, tileSide+tileText))
	xdraw.ApproxBiLinear.Scale(t, image.Rect(0, 0, tileSide, tileSide), p.Image(), image.Rect(0, 0, p.W, p.H), xdraw.Src, nil)
	if found != nil {
		scale := float64(tileSide) / float64(p.W)
		dot := func(i int, col color.RGBA) {
			q := found.Points[i]
			x, y := int(scale*q.X), int(scale*q.Y)
			for d := range 4 {
				if at := (image.Point{x + d%2, y + d/2}); at.Y < tileSide {
					t.Set(at.X, at.Y, col)
				}
			}
		}
		for _, i := range face.FaceOval {
			dot(i, color.RGBA{60, 230, 90, 255})
		}
		for _, i := range scene.Lips {
			dot(i, color.RGBA{255, 60, 60, 255})
		}
		for _, i := range []int{33, 133, 362, 263, 4, 468, 473} {
			dot(i, color.RGBA{60, 160, 255, 255})
		}
	}
	result := fmt.Sprintf("found %d of %d", c.Found, c.Frames)
	if c.Error != nil {
		result += fmt.Sprintf(", off %.1f %%", *c.Error)
	}
	col := color.RGBA{220, 220, 220, 255}
	if !c.OK {
		col = color.RGBA{255, 90, 90, 255}
	}
	for i, line := range []string{c.Group + ": " + c.Name, result} {
		d := font.Drawer{Dst: t, Src: image.NewUniform(col), Face: basicfont.Face7x13, Dot: fixed.P(3, tileSide+13+15*i)}
		d.DrawString(line)
	}
	s.tiles = append(s.tiles, t)
}

// write writes the sheet as PNG.
func (s *sheet) write(path string) error {
	rows := (len(s.tiles) + sheetColumns - 1) / sheetColumns
	all := image.NewRGBA(image.Rect(0, 0, min(len(s.tiles), sheetColumns)*tileSide, rows*(tileSide+tileText)))
	xdraw.Draw(all, all.Rect, image.NewUniform(color.Gray{30}), image.Point{}, xdraw.Src)
	for i, t := range s.tiles {
		at := image.Pt(i%sheetColumns*tileSide, i/sheetColumns*(tileSide+tileText))
		xdraw.Draw(all, t.Rect.Add(at), t, image.Point{}, xdraw.Over)
	}
	var b bytes.Buffer
	err := png.Encode(&b, all)
	if err == nil {
		err = disk.WriteFile(path, b.Bytes(), 0o644)
	}
	return fault.Output.Wrap("write "+path, fault.WithoutPath(err))
}
