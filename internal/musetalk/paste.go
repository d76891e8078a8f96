package musetalk

import (
	"image"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
)

// layer is a generated image, to be pasted into the frame from which the crop was taken. It
// implements lip.Layer.
type layer struct {
	*Crops
	item   lip.Item
	matrix frame.Affine // from the frame to the crop
	image  []float32    // [3, Side, Side], -1..1
}

// Layer returns a generated image, [3, Side, Side] in about -1..1, to be pasted where m maps it
// into the frame of the item. Neither the image nor the face may change until then.
func (c *Crops) Layer(it lip.Item, m frame.Affine, _ *frame.RGB, image []float32) lip.Layer {
	return layer{c, it, m, image}
}

// Paste implements lip.Layer.
func (l layer) Paste(f *frame.Frame) lip.Region {
	if l.Original {
		resized, mask, box := l.Parts()
		if box.Empty() {
			return lip.Region{}
		}
		r := blendOriginal(f, resized, mask, box)
		r.Face = l.item.Face
		return r
	}
	img, n := l.image, patchSide(l.matrix)
	from := n/2 - feather(n) - 1 // the first row of the mask, and one that Blend interpolates with
	if n < Side {
		img = reduced(img, n, from)
	}
	k, m := float64(n)/Side, l.matrix
	m = frame.Affine{A: m.A * k, B: m.B * k, C: (m.C+0.5)*k - 0.5, D: m.D * k, E: m.E * k, F: (m.F+0.5)*k - 0.5}
	alpha := faceMask(mapped(l.item.Face.Points, m), n)
	f.Blend(toRGB(img, n, from), alpha, m)
	return lip.Region{Face: l.item.Face, W: n, H: n, Alpha: alpha, Matrix: m}
}

// firstRow is the first row of an image that layers read, unless they are the original's.
// Where the image is reduced to leastReduced pixels or more, the mask hides what depends on the rows
// above.
const (
	firstRow     = 104
	leastReduced = 42
)

// Rows returns which rows of an image its layer reads: from (inclusive) to to (exclusive).
func (c *Crops) Rows() (from, to int) {
	if c.Original {
		return 0, Side
	}
	return firstRow, Side
}

// reduced returns an image, [3, Side, Side], reduced to n×n pixels, with the rows from a row on.
// Very small images show firstRow instead of the rows above it.
func reduced(img []float32, n, from int) []float32 {
	if n < leastReduced {
		img = slices.Clone(img)
		for plane := range slices.Chunk(img, Side*Side) {
			for y := range firstRow {
				copy(plane[y*Side:(y+1)*Side], plane[firstRow*Side:])
			}
		}
	}
	return face.Bicubic(img, 3, Side, Side, n, n, from)
}

// patchSide returns to how many pixels the image is reduced before it is pasted, because it would
// alias in a small face. Blend interpolates linearly, so the image stays finer than the frame.
func patchSide(m frame.Affine) int {
	inv, _ := m.Invert()
	return int(min(max(1.5*Side*max(math.Hypot(inv.A, inv.D), math.Hypot(inv.B, inv.E)), 8), Side))
}

// Parts returns what the original pastes: the image in the size of the box, the opacity of the
// square around the box, and the box. The mask comes from the mesh, because the original's
// network for masks is not free for commercial use. The box is empty if there is nothing to paste.
func (l layer) Parts() (resized *frame.RGB, mask []float32, box image.Rectangle) {
	box = matrixBox(l.matrix)
	square := originalSquare(box)
	n := square.Dx()
	within := lowerHalf(n, box.Sub(square.Min))
	if within.Empty() {
		return nil, nil, image.Rectangle{}
	}
	var shape []float32
	if l.Shape != nil {
		all := l.Shape(l.item, n)
		for y := within.Min.Y; y < within.Max.Y; y++ {
			shape = append(shape, all[y*n+within.Min.X:y*n+within.Max.X]...)
		}
	} else {
		points := mapped(l.item.Face.Points, frame.Affine{A: 1, C: float64(-square.Min.X), E: 1, F: float64(-square.Min.Y)})
		shape = faceShape(points, within, float64(box.Dy()))
	}
	return bilinear(toRGB(l.image, Side, 0), box.Dx(), box.Dy()), blurred(shape, within, n, originalBlur(n)), box
}

// blendOriginal pastes a face of the box's size, with the opacity mask of the original's square
// around the box, and returns where. Outside the box, the original pastes the frame's own pixels.
func blendOriginal(f *frame.Frame, resized *frame.RGB, mask []float32, box image.Rectangle) lip.Region {
	square := originalSquare(box)
	alpha := make([]float32, 0, box.Dx()*box.Dy())
	for y := box.Min.Y; y < box.Max.Y; y++ {
		row := mask[(y-square.Min.Y)*square.Dx():]
		alpha = append(alpha, row[box.Min.X-square.Min.X:box.Max.X-square.Min.X]...)
	}
	m := frame.Affine{A: 1, C: float64(-box.Min.X), E: 1, F: float64(-box.Min.Y)}
	f.Blend(resized, alpha, m)
	return lip.Region{W: box.Dx(), H: box.Dy(), Alpha: alpha, Matrix: m}
}

// mapped returns the points mapped by m.
func mapped(points []face.Point, m frame.Affine) []face.Point {
	out := make([]face.Point, len(points))
	for i, p := range points {
		out[i].X, out[i].Y = m.Apply(p.X, p.Y)
	}
	return out
}

// toRGB converts the rows of planes, [3, n, n], -1..1, from a row on to bytes, rounded half to
// even (docs/spec/musetalk.md, section 5.5). The rows above are black.
func toRGB(planes []float32, n, from int) *frame.RGB {
	dst := frame.NewRGB(n, n)
	for c := range 3 {
		plane, out := planes[c*n*n:(c+1)*n*n], dst.Pix[c:]
		for i := from * n; i < n*n; i++ {
			v := min(max(plane[i]/2+0.5, 0), 1)
			// At 2^23 and above, a float32 has no fraction.
			out[3*i] = byte(int32(float32(v*255) + 1<<23))
		}
	}
	return dst
}

// bilinear resizes an image to w×h pixels with the bytes of OpenCV's INTER_LINEAR
// (docs/spec/musetalk.md, section 5.6).
func bilinear(src *frame.RGB, w, h int) *frame.RGB {
	dst := frame.NewRGB(w, h)
	at := func(x, y, c int) int32 { return int32(src.Pix[3*(y*src.W+x)+c]) }
	if 2*w == src.W && 2*h == src.H { // the mean of four pixels
		for i := range dst.Pix {
			x, y, c := 2*(i/3%w), 2*(i/3/w), i%3
			dst.Pix[i] = byte((at(x, y, c) + at(x+1, y, c) + at(x, y+1, c) + at(x+1, y+1, c) + 2) >> 2)
		}
		return dst
	}
	type tap struct {
		i      int
		w0, w1 int32
	}
	taps := func(in, out int, edge bool) []tap {
		t := make([]tap, out)
		scale := float64(in) / float64(out)
		for o := range t {
			f := float32((float64(o)+0.5)*scale - 0.5)
			i := int(math.Floor(float64(f)))
			r := f - float32(i)
			if edge && (i < 0 || i >= in-1) {
				i, r = min(max(i, 0), in-1), 0
			}
			t[o] = tap{i, int32(math.RoundToEven(float64((1 - r) * 2048))), int32(math.RoundToEven(float64(r * 2048)))}
		}
		return t
	}
	cols, rows := taps(src.W, w, true), taps(src.H, h, false)
	clamp := func(v, n int) int { return min(max(v, 0), n-1) }
	for y, b := range rows {
		y0, y1 := clamp(b.i, src.H), clamp(b.i+1, src.H)
		for x, a := range cols {
			x1 := clamp(a.i+1, src.W)
			for c := range 3 {
				h0 := a.w0*at(a.i, y0, c) + a.w1*at(x1, y0, c)
				h1 := a.w0*at(a.i, y1, c) + a.w1*at(x1, y1, c)
				v := ((h0 >> 4 * b.w0 >> 16) + (h1 >> 4 * b.w1 >> 16) + 2) >> 2
				dst.Pix[3*(y*w+x)+c] = byte(min(max(v, 0), 255))
			}
		}
	}
	return dst
}

// lowerHalf returns which part of the original's square of n×n pixels the original's mask shows
// before it is blurred: the lower half of the box (docs/spec/musetalk.md, section 6.3). box is
// the face's, in the square.
func lowerHalf(n int, box image.Rectangle) image.Rectangle {
	box.Min.Y = max(box.Min.Y, n/2)
	return box.Intersect(image.Rect(0, 0, n, n))
}

// originalBlur returns the radius of the blur in a square of n pixels: the kernel has 5 % of
// its side.
func originalBlur(n int) int { return n / 40 }
