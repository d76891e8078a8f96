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

// side is the width and height of the networks' images in pixels. Rows below the middle are
// generated.
const side = 256

// crops maps faces to the square crops that the networks see, and generated images back into
// frames. With original set, it uses the original's box, crop and enlargement instead of its
// own.
type crops struct {
	original bool
	head     head
}

// matrix returns the map from the frame to the crop, both with pixel centres at whole numbers.
// Call it once for each frame with a face, in order. The matrix has no inverse if the face is
// not usable.
func (c *crops) matrix(it lip.Item) frame.Affine {
	if c.original {
		return boxMatrix(meshBox(it.Face.Points, it.Frame.Width, it.Frame.Height))
	}
	return c.head.matrix(it.Face)
}

// reset forgets the faces so far, as at a cut.
func (c *crops) reset() { c.head.reset() }

// crop returns the crop of a frame, side×side. What is outside the frame repeats its edge.
func (c *crops) crop(src frame.Source, m frame.Affine) *frame.RGB {
	if c.original {
		return originalCrop(src, matrixBox(m))
	}
	inv, _ := m.Invert()
	// Several samples per pixel prevent aliasing.
	n := int(math.Ceil(max(math.Hypot(inv.A, inv.D), math.Hypot(inv.B, inv.E)) - 0.1))
	if n <= 1 {
		return enlarge(src, inv)
	}
	fine := frame.NewRGB(n*side, n*side)
	src.Warp(fine, scaled(inv, float64(n)), frame.Replicate, 0)
	dst := frame.NewRGB(side, side)
	for i := range dst.Pix {
		x, y, sum := i/3%side, i/3/side, 0
		for k := range n * n {
			sum += int(fine.Pix[3*((y*n+k/n)*fine.W+x*n+k%n)+i%3])
		}
		dst.Pix[i] = byte((sum + n*n/2) / (n * n))
	}
	return dst
}

// scaled returns the map m from an image that is n times as fine.
func scaled(m frame.Affine, n float64) frame.Affine {
	shift := (0.5/n - 0.5) // of the first pixel
	c, f := m.Apply(shift, shift)
	return frame.Affine{A: m.A / n, B: m.B / n, C: c, D: m.D / n, E: m.E / n, F: f}
}

// enlarge samples the source at m of each pixel with cubic convolution (Keys, a = -0.5), which
// is sharper than Source.Warp.
func enlarge(src frame.Source, m frame.Affine) *frame.RGB {
	left, top, right, bottom := m.Bounds(0, 0, side-1, side-1)
	x0, y0 := math.Floor(left)-1, math.Floor(top)-1
	region := frame.NewRGB(int(math.Floor(right)-x0)+3, int(math.Floor(bottom)-y0)+3)
	src.Warp(region, frame.Affine{A: 1, C: x0, E: 1, F: y0}, frame.Replicate, 0)
	dst := frame.NewRGB(side, side)
	for i := range side * side {
		x, y := m.Apply(float64(i%side), float64(i/side))
		x, y = x-x0, y-y0
		wx, wy := cubic(x-math.Floor(x)), cubic(y-math.Floor(y))
		var sum [3]float32
		for r, row := range wy {
			p := region.Pix[3*((int(y)-1+r)*region.W+int(x)-1):]
			for k, w := range wx {
				for c := range sum {
					sum[c] += row * w * float32(p[3*k+c])
				}
			}
		}
		for c, v := range sum {
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

// originalCrop returns the box of the source as side×side pixels. Of a box that extends beyond
// the source, it enlarges what is inside (docs/spec/musetalk.md, section 5.1).
func originalCrop(src frame.Source, box image.Rectangle) *frame.RGB {
	w, h := src.Size()
	box = box.Intersect(image.Rect(0, 0, w, h))
	if box.Empty() {
		return frame.NewRGB(side, side)
	}
	part := frame.NewRGB(box.Dx(), box.Dy())
	src.Warp(part, frame.Affine{A: 1, C: float64(box.Min.X), E: 1, F: float64(box.Min.Y)}, frame.Replicate, 0)
	return face.Lanczos(part, side, side)
}

// pixels fills dst, [3, side, side], -1..1, with what the VAE encodes: the crop, or with masked
// the crop whose lower half is black (docs/spec/musetalk.md, section 5.2).
func (c *crops) pixels(dst []float32, crop *frame.RGB, masked bool) {
	face.PixelValues(dst, crop)
	if !masked {
		return
	}
	for i := range dst {
		if i/side%side >= side/2 {
			dst[i] = -1
		}
	}
}
