package musetalk

import (
	"cmp"
	"image"
	"math"
	"slices"

	"golang.org/x/image/vector"

	"github.com/lipstream/lipstream/internal/face"
)

// The nose in the mesh, a closed outline from the bridge to the wings, and the muzzle: the outline
// of the lips, and the middle of the face from the nose to the chin.
var (
	noseOutline = []int{168, 196, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 419}
	muzzle      = []int{
		61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
		164, 18, 200, 199, 175, 152,
	}
)

// How far the mask extends beyond the face oval, as parts of the height of the box. The
// original shrinks its mask at the cheeks as well.
const (
	chinReach  = 0.065 // below the chin, where the mouth may open wider than in the source
	cheekReach = -0.04 // at the cheeks, where the feather must not reach what lies behind
)

// faceMask returns the opacity of a generated image in a crop of n×n pixels: the face below
// the middle row, feathered (docs/spec/musetalk.md, section 6.5). It is 0 at the other
// edges of the crop. points are those of the mesh in the crop.
func faceMask(points []face.Point, n int) []float32 {
	radius := max(n*9/Side, 1) // the original's blur is 7.5 % of the box
	edge := radius + 1
	return feathered(faceShape(points, n, float64(n)), n, image.Rect(edge, n/2, n-edge, n-edge), radius)
}

// feathered sets the mask, [n, n], to 0 outside the rectangle and blurs it over radius pixels to
// either side.
func feathered(mask []float32, n int, within image.Rectangle, radius int) []float32 {
	for i := range mask {
		if !image.Pt(i%n, i/n).In(within) {
			mask[i] = 0
		}
	}
	return face.Blur(mask, n, n, gaussian(radius))
}

// gaussian returns OpenCV's kernel of 2·radius+1 taps. Those of up to 7 taps do not follow
// the formula.
func gaussian(radius int) []float32 {
	switch radius {
	case 0:
		return []float32{1}
	case 1:
		return []float32{1. / 4, 2. / 4, 1. / 4}
	case 2:
		return []float32{1. / 16, 4. / 16, 6. / 16, 4. / 16, 1. / 16}
	case 3:
		return []float32{1. / 32, 3.5 / 32, 7. / 32, 9. / 32, 7. / 32, 3.5 / 32, 1. / 32}
	}
	return face.Gaussian(radius)
}

// faceShape returns which part of each pixel of an image of n×n belongs to the face, 0..1: the
// face oval, narrowed at the cheeks and extended below the chin, without the nose but with the
// muzzle. points are those of the mesh in the image; height is that of the face's box.
func faceShape(points []face.Point, n int, height float64) []float32 {
	outline := func(indices []int) []face.Point {
		p := make([]face.Point, len(indices))
		for i, k := range indices {
			p[i] = points[k]
		}
		return p
	}
	oval := outline(face.FaceOval)
	mouth := mean(points, []int{13, 14})
	for i, p := range oval {
		// From the cheeks to the chin, more and more away from the mouth.
		x, y := p.X-mouth.X, p.Y-mouth.Y
		d := max(math.Hypot(x, y), 1)
		down := min(max((y/d-0.1)/0.7, 0), 1)
		reach := height * (cheekReach + (chinReach-cheekReach)*down*down*(3-2*down)) / d
		oval[i].X, oval[i].Y = p.X+x*reach, p.Y+y*reach
	}
	shape := fill(oval, n)
	// The nose stays, as in the original: otherwise the mask's edge would cross it.
	nose := outline(noseOutline)
	centre := points[1]
	for i, p := range nose { // a little smaller
		nose[i].X, nose[i].Y = p.X+0.08*(centre.X-p.X), p.Y+0.08*(centre.Y-p.Y)
	}
	for i, v := range fill(nose, n) {
		shape[i] *= 1 - v
	}
	// In the outline of a head turned far, lips and chin lie beyond the oval.
	for i, v := range fill(hull(outline(muzzle)), n) {
		shape[i] = max(shape[i], v)
	}
	return shape
}

// hull returns the convex hull of points, which it sorts (A. M. Andrew, Another efficient algorithm
// for convex hulls in two dimensions, 1979).
func hull(points []face.Point) (h []face.Point) {
	slices.SortFunc(points, func(a, b face.Point) int { return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y)) })
	for range 2 { // the lower and the upper chain
		first := len(h)
		for _, p := range points {
			for n := len(h); n >= first+2; n = len(h) {
				a, b := h[n-2], h[n-1]
				if (b.X-a.X)*(p.Y-a.Y) > (b.Y-a.Y)*(p.X-a.X) {
					break
				}
				h = h[:n-1]
			}
			h = append(h, p)
		}
		h = h[:len(h)-1] // the other chain begins with it
		slices.Reverse(points)
	}
	return h
}

// fill returns which part of each pixel of an image of n×n lies in the polygon, 0..1. Pixel
// centres are at whole numbers.
func fill(polygon []face.Point, n int) []float32 {
	r := vector.NewRasterizer(n, n)
	for i, p := range polygon {
		x, y := float32(p.X+0.5), float32(p.Y+0.5)
		if i == 0 {
			r.MoveTo(x, y)
		} else {
			r.LineTo(x, y)
		}
	}
	r.ClosePath()
	cover := image.NewAlpha(image.Rect(0, 0, n, n))
	r.Draw(cover, cover.Rect, image.Opaque, image.Point{})
	out := make([]float32, n*n)
	for i, v := range cover.Pix {
		out[i] = float32(v) / 255
	}
	return out
}
