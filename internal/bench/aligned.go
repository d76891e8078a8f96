package bench

import (
	"math"
	"slices"
	"sync"

	"github.com/lipstream/lipstream/internal/bench/scene"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

const (
	width, height = face.TemplateW, face.TemplateH // of the template, in which identity and flicker are measured

	cell = 5 // side of the square that is smoothed over, in template pixels
	// border is the width of the strip along the edge of the mask, inside of it, in
	// template pixels. All engines fade their changes out in it.
	border = 16
)

// aligned is a frame warped to the template.
type aligned struct {
	rgb  *frame.RGB
	luma []float64
	seen []bool // inside of the frame
}

func newAligned() *aligned {
	return &aligned{frame.NewRGB(width, height), make([]float64, width*height), make([]bool, width*height)}
}

// load warps a frame. align maps frame pixels to the template.
func (a *aligned) load(f *frame.Frame, align frame.Affine) {
	inv, _ := align.Invert()
	f.Warp(a.rgb, inv, frame.Replicate, 0)
	for i := range a.luma {
		p := a.rgb.Pix[3*i : 3*i+3]
		a.luma[i] = 0.299*float64(p[0]) + 0.587*float64(p[1]) + 0.114*float64(p[2])
		x, y := inv.Apply(float64(i%width), float64(i/width))
		a.seen[i] = x >= 0 && y >= 0 && x <= float64(f.Width-1) && y <= float64(f.Height-1)
	}
}

// smooth returns the mean luma of the square of 5 x 5 pixels around each template pixel; NaN
// where the centre is outside of the frame, and at the edge of the template.
func (a *aligned) smooth() []float64 {
	const reach = cell / 2
	out, rows := make([]float64, width*height), make([]float64, width*height)
	for i := range rows {
		if x := i % width; x >= reach && x < width-reach {
			rows[i] = sum(a.luma[i-reach:i+reach+1]) / (cell * cell)
		}
	}
	for i := range out {
		x, y := i%width, i/width
		if x < reach || y < reach || x >= width-reach || y >= height-reach || !a.seen[i] {
			out[i] = math.NaN()
			continue
		}
		for row := i - reach*width; row <= i+reach*width; row += width {
			out[i] += rows[row]
		}
	}
	return out
}

// The parts of a face. Flicker is measured in the first three.
const (
	atBorder = iota // along the edge of the mask, inside of it
	onSkin          // the rest of the mask without the lips
	onMouth         // the lips and what is between them
	onRest          // outside of the mask
	outside         // not the face
	places   = onRest
)

// maskParts returns the part of each template pixel for a face that covers the template and has
// no mouth.
var maskParts = sync.OnceValue(func() []int {
	out := make([]int, width*height)
	for i, alpha := range face.MaskAlpha(width, height, border) {
		switch {
		case alpha == 0:
			out[i] = onRest
		case alpha < 1:
			out[i] = atBorder
		default:
			out[i] = onSkin
		}
	}
	return out
})

// partsOf returns the part of each template pixel. The lips of found and of others are the
// mouth.
func partsOf(found *face.Face, others ...*face.Face) []int {
	out := slices.Clone(maskParts())
	for i, in := range polygon(found.Align, found.Points, face.FaceOval) {
		if !in {
			out[i] = outside
		}
	}
	for _, f := range append(others, found) {
		if f == nil {
			continue
		}
		for i, in := range polygon(found.Align, f.Points, scene.Lips) {
			if !in {
				continue
			}
			x, y := i%width, i/width
			from, to := max(0, x-lipMargin), min(width, x+lipMargin+1)
			for row := max(0, y-lipMargin); row < min(height, y+lipMargin+1); row++ {
				for at := row*width + from; at < row*width+to; at++ {
					out[at] = onMouth
				}
			}
		}
	}
	return out
}

// lipMargin is how far beyond the lips the mouth reaches, in template pixels: the mesh finds
// their edge to a pixel or two, and windows of SSIM reach three.
const lipMargin = 6

// polygon marks the template pixels whose centres lie inside of an outline of mesh points.
func polygon(align frame.Affine, points []face.Point, outline []int) []bool {
	corners := make([][2]float64, len(outline))
	for i, k := range outline {
		corners[i][0], corners[i][1] = align.Apply(points[k].X, points[k].Y)
	}
	out := make([]bool, width*height)
	var crossings []float64
	for y := range height {
		crossings = crossings[:0]
		for i, a := range corners {
			b := corners[(i+1)%len(corners)]
			if (a[1] > float64(y)) != (b[1] > float64(y)) {
				crossings = append(crossings, a[0]+(float64(y)-a[1])/(b[1]-a[1])*(b[0]-a[0]))
			}
		}
		slices.Sort(crossings)
		for i := 0; i+1 < len(crossings); i += 2 {
			from, to := max(math.Ceil(crossings[i]), 0), min(math.Ceil(crossings[i+1]), width)
			for x := int(from); x < int(to); x++ {
				out[y*width+x] = true
			}
		}
	}
	return out
}
