package face

import (
	_ "embed" // the mask
	"encoding/json"
	"math"
	"sync"

	"github.com/lipstream/lipstream/internal/frame"
)

// LatentSync's fixed mask as runs: [row, [[first, last], ...]], valid until
// the next row listed; columns inclusive, of the region that is generated.
//
//go:embed mask_row_runs.json
var maskRuns []byte

const maskSide = 256

// mask256 is the mask image: 0 where the engines generate, 255 where the
// picture is kept (3.6).
var mask256 = sync.OnceValue(func() []byte {
	var rows [][2]json.RawMessage
	must := func(err error) {
		if err != nil {
			panic("face: embedded mask: " + err.Error())
		}
	}
	must(json.Unmarshal(maskRuns, &rows))
	m := make([]byte, maskSide*maskSide)
	for i := range m {
		m[i] = 255
	}
	for i, r := range rows {
		var first int
		var runs [][2]int
		must(json.Unmarshal(r[0], &first))
		must(json.Unmarshal(r[1], &runs))
		end := maskSide
		if i+1 < len(rows) {
			must(json.Unmarshal(rows[i+1][0], &end))
		}
		for y := first; y < end; y++ {
			for _, run := range runs {
				for x := run[0]; x <= run[1]; x++ {
					m[y*maskSide+x] = 0
				}
			}
		}
	}
	return m
})

// MaskImage is the mask at the model's resolution r as bytes [r,r], 0 to
// generate, 255 to keep. At 256 it is binary; elsewhere Lanczos leaves grey
// values, as in the original.
func MaskImage(r int) []byte {
	m := mask256()
	if r == maskSide {
		return append([]byte(nil), m...)
	}
	p := frame.NewRGB(maskSide, maskSide)
	for i, v := range m {
		p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = v, v, v
	}
	l := newLanczos(maskSide, r)
	q := resizeLanczos(p, l, l)
	out := make([]byte, r*r)
	for i := range out {
		out[i] = q.Pix[3*i]
	}
	return out
}

// Mask is MaskImage as the network's channel: [r,r], 1 keep, 0 generate.
func Mask(r int) []float32 {
	img := MaskImage(r)
	m := make([]float32, len(img))
	for i, v := range img {
		m[i] = float32(float64(v) / 255)
	}
	return m
}

// LatentMask is Mask reduced by factor (8 for the usual VAE) to
// [r/factor,r/factor], nearest neighbour.
func LatentMask(r, factor int) []float32 {
	m, n := Mask(r), r/factor
	out := make([]float32, n*n)
	for y := range n {
		for x := range n {
			out[y*n+x] = m[y*factor*r+x*factor]
		}
	}
	return out
}

// PixelValues writes the crop as planar [3,R,R] in -1..1 to dst (3.7).
func PixelValues(dst []float32, crop *frame.RGB) {
	n := crop.W * crop.H
	for i := range n {
		for c := range 3 {
			dst[c*n+i] = (float32(crop.Pix[3*i+c])/255 - 0.5) / 0.5
		}
	}
}

// MaskedPixels writes pixels·mask to dst: [3,R,R] by [R,R]; the region to
// generate becomes 0, mid grey (3.7).
func MaskedPixels(dst, pixels, mask []float32) {
	n := len(mask)
	for i, v := range pixels {
		dst[i] = v * mask[i%n]
	}
}

// MaskAlpha is the region to generate in template coordinates, [h,w] over the
// whole template, for blending: 0 outside the mask, rising inside it to 1 at
// feather·w/TemplateW pixels from its edge, so that nothing outside the hard
// mask is ever touched. feather is in template units (210 x 280).
func MaskAlpha(w, h int, feather float64) []float32 {
	m := mask256()
	inside := make([]bool, w*h)
	for y := range h {
		my := min(int((float64(y)+0.5)*maskSide/float64(h)), maskSide-1)
		for x := range w {
			mx := min(int((float64(x)+0.5)*maskSide/float64(w)), maskSide-1)
			inside[y*w+x] = m[my*maskSide+mx] == 0
		}
	}
	d := insideDistance(inside, w, h)
	width := feather * float64(w) / TemplateW
	out := make([]float32, w*h)
	for i, v := range d {
		if !inside[i] {
			continue
		}
		// v is 1 at the outermost pixel inside.
		t := v / (width + 1)
		if width <= 0 || t > 1 {
			t = 1
		}
		out[i] = float32(t * t * (3 - 2*t))
	}
	return out
}

// insideDistance is the exact Euclidean distance of each pixel inside to the
// nearest pixel outside; beyond the picture is outside, too.
func insideDistance(inside []bool, w, h int) []float64 {
	// Rows first: squared distance to the nearest outside pixel of the column.
	g := make([]float64, w*h)
	for x := range w {
		run := 0
		for y := range h {
			run++
			if !inside[y*w+x] {
				run = 0
			}
			g[y*w+x] = float64(run)
		}
		run = 0
		for y := h - 1; y >= 0; y-- {
			run++
			if !inside[y*w+x] {
				run = 0
			}
			g[y*w+x] = math.Min(g[y*w+x], float64(run))
		}
	}
	d := make([]float64, w*h)
	for y := range h {
		row := g[y*w : (y+1)*w]
		for x := range w {
			if row[x] == 0 {
				continue
			}
			best := row[x] * row[x]
			for k := 1; float64(k*k) < best; k++ {
				left, right := 0.0, 0.0
				if x-k >= 0 {
					left = row[x-k]
				}
				if x+k < w {
					right = row[x+k]
				}
				v := math.Min(left, right)
				best = math.Min(best, v*v+float64(k*k))
			}
			d[y*w+x] = math.Sqrt(best)
		}
	}
	return d
}
