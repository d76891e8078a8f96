package face

import (
	"bytes"
	_ "embed" // the mask
	"encoding/json"
	"math"
	"sync"

	"github.com/lipstream/lipstream/internal/frame"
)

// LatentSync's fixed mask as the rectangles that are generated: first and last row,
// first and last column.
//
//go:embed mask_row_runs.json
var maskRuns []byte

const maskSide = 256

// mask256 returns the mask image: 0 where the engines generate, 255 where the frame is
// kept (docs/spec/latentsync.md, section 3.6).
var mask256 = sync.OnceValue(func() []byte {
	var runs [][4]int
	if err := json.Unmarshal(maskRuns, &runs); err != nil {
		panic("face: embedded mask: " + err.Error())
	}
	m := bytes.Repeat([]byte{255}, maskSide*maskSide)
	for _, r := range runs {
		for y := r[0]; y <= r[1]; y++ {
			clear(m[y*maskSide+r[2] : y*maskSide+r[3]+1])
		}
	}
	return m
})

// maskImage returns the mask at the model's resolution r as bytes, [r,r]: 0 to generate,
// 255 to keep. At 256 it is binary; otherwise Lanczos leaves grey values, as in the
// original.
func maskImage(r int) []byte {
	m := mask256()
	if r == maskSide {
		return m
	}
	in := make([]int32, len(m))
	for i, v := range m {
		in[i] = int32(v)
	}
	l := newLanczos(maskSide, r)
	out := make([]byte, r*r)
	for i, v := range resize(in, 1, l, l) {
		out[i] = lanczosByte(v)
	}
	return out
}

// Mask returns the mask as the network's channel: [r,r], 1 to keep, 0 to generate.
func Mask(r int) []float32 {
	m := make([]float32, r*r)
	for i, v := range maskImage(r) {
		m[i] = float32(float64(v) / 255)
	}
	return m
}

// LatentMask returns Mask reduced by factor, which is 8 for the published VAE:
// [r/factor,r/factor], nearest neighbour.
func LatentMask(r, factor int) []float32 {
	m, n := Mask(r), r/factor
	out := make([]float32, n*n)
	for i := range out {
		out[i] = m[i/n*factor*r+i%n*factor]
	}
	return out
}

// PixelValues writes the crop as planar [3,R,R] in -1..1 to dst
// (docs/spec/latentsync.md, section 3.7).
func PixelValues(dst []float32, crop *frame.RGB) {
	n := crop.W * crop.H
	for i, v := range crop.Pix {
		dst[i%3*n+i/3] = (float32(v)/255 - 0.5) / 0.5
	}
}

// MaskedPixels writes pixels·mask to dst: [3,R,R] by [R,R]. The region to generate
// becomes 0, mid grey (docs/spec/latentsync.md, section 3.7).
func MaskedPixels(dst, pixels, mask []float32) {
	n := len(mask)
	for i, v := range pixels {
		dst[i] = v * mask[i%n]
	}
}

// MaskAlpha returns the opacity to blend the generated region with, [h,w] over the whole
// template: 0 outside the mask, rising inside it to 1 at feather·w/TemplateW pixels
// from its edge, so that nothing outside the mask ever changes. feather is in
// template units (210 x 280).
func MaskAlpha(w, h int, feather float64) []float32 {
	m := mask256()
	at := func(i, n int) int { return int((float64(i) + 0.5) * maskSide / float64(n)) }
	inside := make([]bool, w*h)
	for i := range inside {
		inside[i] = m[at(i/w, h)*maskSide+at(i%w, w)] == 0
	}
	width := feather * float64(w) / TemplateW
	out := make([]float32, w*h)
	for i, distance := range insideDistance(inside, w, h) {
		t := min(distance/(width+1), 1) // distance is 1 at the outermost pixel inside
		out[i] = float32(t * t * (3 - 2*t))
	}
	return out
}

// insideDistance returns the exact Euclidean distance of each pixel inside to the
// nearest pixel outside, and 0 for the others. What is beyond the image is outside.
func insideDistance(inside []bool, w, h int) []float64 {
	// Columns first: the distance to the nearest outside pixel of the column.
	g := make([]float64, w*h)
	for x := range w {
		var down, up float64
		step := func(run *float64, at int) float64 {
			*run++
			if !inside[at] {
				*run = 0
			}
			return *run
		}
		for y := range h {
			g[y*w+x] = step(&down, y*w+x)
		}
		for y := h - 1; y >= 0; y-- {
			g[y*w+x] = min(g[y*w+x], step(&up, y*w+x))
		}
	}
	d := make([]float64, w*h)
	for i, v := range g {
		x, row := i%w, g[i/w*w:i/w*w+w]
		at := func(x int) float64 {
			if x < 0 || x >= w {
				return 0
			}
			return row[x]
		}
		best := v * v
		for k := 1; float64(k*k) < best; k++ {
			side := min(at(x-k), at(x+k))
			best = min(best, side*side+float64(k*k))
		}
		d[i] = math.Sqrt(best)
	}
	return d
}
