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

// feather returns over how many pixels to either side of its edge the mask of n×n pixels is
// blurred. The original's blur is 7.5 % of the box.
func feather(n int) int { return max(n*9/Side, 1) }

// faceMask returns the opacity of a generated image in a crop of n×n pixels: the face below
// the middle row, feathered (docs/spec/musetalk.md, section 6.5). It is 0 at the other
// edges of the crop. points are those of the mesh in the crop.
func faceMask(points []face.Point, n int) []float32 {
	edge := feather(n) + 1
	within := image.Rect(edge, n/2, n-edge, n-edge)
	return blurred(faceShape(points, within, float64(n)), within, n, feather(n))
}

// blurred returns a mask of n×n pixels that is 0 outside the rectangle and has the given
// values in it, convolved with a Gaussian of 2·radius+1 taps.
func blurred(shape []float32, within image.Rectangle, n, radius int) []float32 {
	kernel := gaussian(radius)[radius:] // from the middle to one side
	shape = blurLines(shape, within.Dx(), kernel)
	shape = blurLines(shape, within.Dy(), kernel)
	whole := within.Inset(-radius)
	part := whole.Intersect(image.Rect(0, 0, n, n))
	out := make([]float32, n*n)
	for y := part.Min.Y; y < part.Max.Y; y++ {
		row := shape[(y-whole.Min.Y)*whole.Dx():]
		copy(out[y*n+part.Min.X:y*n+part.Max.X], row[part.Min.X-whole.Min.X:])
	}
	return out
}

// blurLines convolves each line of src, [lines, n], which is 0 beyond its ends, with a symmetric
// kernel, of which it is given the half from the middle. It returns the transpose,
// [n+2·radius, lines].
func blurLines(src []float32, n int, kernel []float32) []float32 {
	radius, lines := len(kernel)-1, len(src)/n
	taps := 2*radius + 1
	line := make([]float32, n+4*radius)
	dst := make([]float32, (n+2*radius)*lines)
	for l := range lines {
		copy(line[2*radius:], src[l*n:(l+1)*n])
		same := 0 // how many values before this one are equal to it
		for i, v := range line {
			if i > 0 && v != line[i-1] {
				same = 0
			}
			same++
			if i < taps-1 {
				continue
			}
			if same < taps {
				around := line[i-taps+1 : i+1]
				v = kernel[0] * around[radius]
				for k := 1; k <= radius; k++ {
					v += kernel[k] * (around[radius-k] + around[radius+k])
				}
			}
			dst[(i-taps+1)*lines+l] = v
		}
	}
	return dst
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

// faceShape returns which part of each pixel in a rectangle of an image belongs to the face, 0..1:
// the face oval, narrowed at the cheeks and extended below the chin, without the nose but with
// the muzzle. points are those of the mesh in the image; height is that of the face's box.
func faceShape(points []face.Point, within image.Rectangle, height float64) []float32 {
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
	shape := fill(oval, within)
	// The nose stays, as in the original: otherwise the mask's edge would cross it.
	nose := outline(noseOutline)
	centre := points[1]
	for i, p := range nose { // a little smaller
		nose[i].X, nose[i].Y = p.X+0.08*(centre.X-p.X), p.Y+0.08*(centre.Y-p.Y)
	}
	for i, v := range fill(nose, within) {
		shape[i] *= 1 - v
	}
	// In the outline of a head turned far, lips and chin lie beyond the oval.
	for i, v := range fill(hull(outline(muzzle)), within) {
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

// fill returns which part of each pixel in a rectangle of an image lies in the polygon, 0..1.
// Pixel centres are at whole numbers.
func fill(polygon []face.Point, within image.Rectangle) []float32 {
	r := vector.NewRasterizer(within.Dx(), within.Dy())
	for i, p := range polygon {
		x, y := float32(p.X+0.5-float64(within.Min.X)), float32(p.Y+0.5-float64(within.Min.Y))
		if i == 0 {
			r.MoveTo(x, y)
		} else {
			r.LineTo(x, y)
		}
	}
	r.ClosePath()
	cover := image.NewAlpha(image.Rect(0, 0, within.Dx(), within.Dy()))
	r.Draw(cover, cover.Rect, image.Opaque, image.Point{})
	out := make([]float32, len(cover.Pix))
	for i, v := range cover.Pix {
		out[i] = float32(v) / 255
	}
	return out
}
