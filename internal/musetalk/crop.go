// Package musetalk computes what MuseTalk does around its networks: which features of the voice
// a frame hears, where its face is, what the networks see, and how their image gets into the
// frame (docs/spec/musetalk.md).
package musetalk

import (
	"image"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// Side is the width and height of the networks' images in pixels. Rows below the middle are
// generated.
const Side = 256

// Crops maps faces to the square crops that the networks see, and generated images back into
// frames. With Original set, it uses the original's box, crop and enlargement instead of its
// own.
type Crops struct {
	Original bool
	// Landmarks and Shape return what the original's networks find: the 68 landmarks of a
	// face, and which pixels of the square of n×n around it belong to the mask, 0..1. If they
	// are nil, both follow from the mesh. They need Original.
	Landmarks func(lip.Item) [68][2]float64
	Shape     func(it lip.Item, n int) []float32
	head      head
}

// Matrix returns the map from the frame to the crop, both with pixel centres at whole numbers.
// Call it once for each frame with a face, in order. The matrix has no inverse if the face is
// not usable.
func (c *Crops) Matrix(it lip.Item) frame.Affine {
	switch {
	case c.Original && c.Landmarks != nil:
		box, _ := originalBox(c.Landmarks(it), image.Rectangle{}, 0, originalMargin, it.Frame.Height)
		return boxMatrix(box)
	case c.Original:
		return boxMatrix(meshBox(it.Face.Points, it.Frame.Width, it.Frame.Height))
	}
	return c.head.matrix(it.Face)
}

// Reset forgets the faces so far, as at a cut.
func (c *Crops) Reset() { c.head.reset() }

// Crop returns the crop of a frame, Side×Side. What is outside the frame repeats its edge.
func (c *Crops) Crop(src frame.Source, m frame.Affine) *frame.RGB {
	if c.Original {
		return originalCrop(src, matrixBox(m))
	}
	inv, _ := m.Invert()
	// Several samples per pixel prevent aliasing.
	n := int(math.Ceil(max(math.Hypot(inv.A, inv.D), math.Hypot(inv.B, inv.E)) - 0.1))
	if n <= 1 {
		return enlarge(src, inv)
	}
	dst, row := frame.NewRGB(Side, Side), frame.NewRGB(n*Side, n)
	for y := range Side {
		m := inv
		m.C, m.F = inv.Apply(0, float64(y))
		src.Warp(row, finer(m, n), frame.Replicate, 0)
		for i := range 3 * Side {
			sum := n * n / 2
			for k := range n * n {
				sum += int(row.Pix[3*(k/n*row.W+i/3*n+k%n)+i%3])
			}
			dst.Pix[3*y*Side+i] = byte(sum / (n * n))
		}
	}
	return dst
}

// finer returns the map m for an image that is n times as fine.
func finer(m frame.Affine, n int) frame.Affine {
	k := 1 / float64(n)
	c, f := m.Apply(k/2-0.5, k/2-0.5) // the first pixel
	return frame.Affine{A: m.A * k, B: m.B * k, C: c, D: m.D * k, E: m.E * k, F: f}
}

// enlarge samples the source at m of each pixel with cubic convolution (Keys, a = -0.5), which
// is sharper than Source.Warp.
func enlarge(src frame.Source, m frame.Affine) *frame.RGB {
	left, top, right, bottom := m.Bounds(0, 0, Side-1, Side-1)
	x0, y0 := math.Floor(left)-1, math.Floor(top)-1
	region := frame.NewRGB(int(math.Floor(right)-x0)+3, int(math.Floor(bottom)-y0)+3)
	src.Warp(region, frame.Affine{A: 1, C: x0, E: 1, F: y0}, frame.Replicate, 0)
	dst := frame.NewRGB(Side, Side)
	for i := range Side * Side {
		x, y := m.Apply(float64(i%Side), float64(i/Side))
		x, y = x-x0, y-y0
		wx, wy := cubic(x-math.Floor(x)), cubic(y-math.Floor(y))
		var r, g, b float32
		for j, row := range wy {
			at := 3 * ((int(y)-1+j)*region.W + int(x) - 1)
			p := region.Pix[at : at+12 : at+12]
			r += row * (wx[0]*float32(p[0]) + wx[1]*float32(p[3]) + wx[2]*float32(p[6]) + wx[3]*float32(p[9]))
			g += row * (wx[0]*float32(p[1]) + wx[1]*float32(p[4]) + wx[2]*float32(p[7]) + wx[3]*float32(p[10]))
			b += row * (wx[0]*float32(p[2]) + wx[1]*float32(p[5]) + wx[2]*float32(p[8]) + wx[3]*float32(p[11]))
		}
		for c, v := range [3]float32{r, g, b} {
			dst.Pix[3*i+c] = byte(min(max(v+0.5, 0), 255))
		}
	}
	return dst
}

// cubic returns the weights of the four pixels around a point that lies t behind the second.
func cubic(t float64) [4]float32 {
	return [4]float32{
		float32(((2-t)*t - 1) * t / 2), float32(((3*t-5)*t*t + 2) / 2),
		float32(((4-3*t)*t + 1) * t / 2), float32((t - 1) * t * t / 2),
	}
}

// originalCrop returns the box of the source as Side×Side pixels. Of a box that extends beyond
// the source, it enlarges what is inside (docs/spec/musetalk.md, section 5.1).
func originalCrop(src frame.Source, box image.Rectangle) *frame.RGB {
	w, h := src.Size()
	box = box.Intersect(image.Rect(0, 0, w, h))
	if box.Empty() {
		return frame.NewRGB(Side, Side)
	}
	part := frame.NewRGB(box.Dx(), box.Dy())
	src.Warp(part, frame.Affine{A: 1, C: float64(box.Min.X), E: 1, F: float64(box.Min.Y)}, frame.Replicate, 0)
	return face.Lanczos(part, Side, Side)
}

// Pixels fills dst, [3, Side, Side], -1..1, with what the VAE encodes: the crop, or with masked
// the crop whose lower half is black (docs/spec/musetalk.md, section 5.2).
func (c *Crops) Pixels(dst []float32, crop *frame.RGB, masked bool) {
	face.PixelValues(dst, crop)
	if !masked {
		return
	}
	for i := range dst {
		if i/Side%Side >= Side/2 {
			dst[i] = -1
		}
	}
}
