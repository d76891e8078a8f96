package bench

import (
	"encoding/binary"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// growth is by how many pixels the mask is grown. The encoder's deblocking mixes
// a few pixels across the edges of its blocks, so a change on one side of the
// mask's edge shows on the other.
const growth = 2

// bestPSNR stands for identical frames, whose PSNR is infinite, dB.
const bestPSNR = 100

// Region marks luma pixels of a frame: those inside the rectangle from x0, y0
// whose in is true.
type Region struct {
	x0, y0, w, h int
	in           []bool
}

func (r *Region) has(x, y int) bool {
	x, y = x-r.x0, y-r.y0
	return x >= 0 && y >= 0 && x < r.w && y < r.h && r.in[y*r.w+x]
}

// masker finds the pixels that an engine may change.
type masker struct {
	alpha  []float32
	region Region
	spread []bool
}

func newMasker() *masker {
	return &masker{alpha: face.MaskAlpha(face.TemplateW, face.TemplateH, 0)}
}

// mask returns the face mask in the frame, grown. align maps frame pixels to the
// template. The result is valid until the next call.
func (m *masker) mask(f frame.Format, align frame.Affine) *Region {
	r := &m.region
	inv, ok := align.Invert()
	if !ok {
		*r = Region{in: r.in}
		return r
	}
	x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, c := range [4][2]float64{{0, 0}, {face.TemplateW, 0}, {0, face.TemplateH}, {face.TemplateW, face.TemplateH}} {
		x, y := inv.Apply(c[0], c[1])
		x0, y0, x1, y1 = math.Min(x0, x), math.Min(y0, y), math.Max(x1, x), math.Max(y1, y)
	}
	clip := func(v float64, most int) int { return int(math.Max(0, math.Min(v, float64(most)))) }
	r.x0, r.y0 = clip(x0-growth-1, f.Width), clip(y0-growth-1, f.Height)
	r.w, r.h = clip(x1+growth+2, f.Width)-r.x0, clip(y1+growth+2, f.Height)-r.y0
	n := r.w * r.h
	if cap(r.in) < n {
		r.in, m.spread = make([]bool, n), make([]bool, n)
	}
	r.in, m.spread = r.in[:n], m.spread[:n]
	for y := range r.h {
		for x := range r.w {
			u, v := align.Apply(float64(r.x0+x), float64(r.y0+y))
			r.in[y*r.w+x] = m.touched(u, v)
		}
	}
	m.grow()
	return r
}

// touched reports whether the mask is above 0 there, sampled bilinearly as the
// engines do.
func (m *masker) touched(u, v float64) bool {
	i, j := int(math.Floor(u)), int(math.Floor(v))
	for _, y := range [2]int{j, j + 1} {
		for _, x := range [2]int{i, i + 1} {
			if x >= 0 && y >= 0 && x < face.TemplateW && y < face.TemplateH && m.alpha[y*face.TemplateW+x] > 0 {
				return true
			}
		}
	}
	return false
}

// grow widens the region by growth pixels to all sides.
func (m *masker) grow() {
	r := &m.region
	clear(m.spread)
	for y := range r.h {
		for x := range r.w {
			if !r.in[y*r.w+x] {
				continue
			}
			from, to := max(0, x-growth), min(r.w, x+growth+1)
			for row := max(0, y-growth); row < min(r.h, y+growth+1); row++ {
				for at := from; at < to; at++ {
					m.spread[row*r.w+at] = true
				}
			}
		}
	}
	r.in, m.spread = m.spread, r.in
}

// ErrorSum is the squared error of luma and of both chroma planes, in units of
// the sample.
type ErrorSum struct {
	sum, n [3]float64
}

// Add adds another sum.
func (e *ErrorSum) Add(o ErrorSum) {
	for i := range e.sum {
		e.sum[i] += o.sum[i]
		e.n[i] += o.n[i]
	}
}

// Luma returns the PSNR of the luma plane, dB; NaN without any pixel.
func (e *ErrorSum) Luma(depth int) float64 { return psnr(e.sum[0], e.n[0], depth) }

// Exact reports whether no sample of any plane differs.
func (e *ErrorSum) Exact() bool { return e.sum == [3]float64{} }

// all returns the PSNR of all planes together, every sample counting the same, as
// ffmpeg's average does.
func (e *ErrorSum) all(depth int) float64 {
	return psnr(e.sum[0]+e.sum[1]+e.sum[2], e.n[0]+e.n[1]+e.n[2], depth)
}

func psnr(sum, n float64, depth int) float64 {
	if n == 0 {
		return math.NaN()
	}
	if sum == 0 {
		return bestPSNR
	}
	peak := float64(int(1)<<depth - 1)
	return math.Min(bestPSNR, 10*math.Log10(peak*peak*n/sum))
}

// Difference returns the squared error between two frames of one format, split
// by the region: a chroma sample is inside if one of its luma pixels is. A nil
// region puts everything outside.
func Difference(a, b *frame.Frame, r *Region) (outside, inside ErrorSum) {
	for i := range 3 {
		w, h := a.PlaneSize(i)
		sx, sy := a.ShiftX, a.ShiftY
		if i == 0 {
			sx, sy = 0, 0
		}
		for y := range h {
			var in, out float64
			covered := 0
			near := r != nil && (y+1)<<sy > r.y0 && y<<sy < r.y0+r.h
			for x := range w {
				d := sample(a, i, y*w+x) - sample(b, i, y*w+x)
				if near && coveredBy(r, x, y, sx, sy) {
					in += d * d
					covered++
				} else {
					out += d * d
				}
			}
			outside.sum[i] += out
			outside.n[i] += float64(w - covered)
			inside.sum[i] += in
			inside.n[i] += float64(covered)
		}
	}
	return outside, inside
}

// coveredBy reports whether one of the luma pixels of a sample is in the region.
func coveredBy(r *Region, x, y, sx, sy int) bool {
	for ly := y << sy; ly < (y+1)<<sy; ly++ {
		for lx := x << sx; lx < (x+1)<<sx; lx++ {
			if r.has(lx, ly) {
				return true
			}
		}
	}
	return false
}

func sample(f *frame.Frame, plane, i int) float64 {
	if f.Depth > 8 {
		return float64(binary.LittleEndian.Uint16(f.Planes[plane][2*i:]))
	}
	return float64(f.Planes[plane][i])
}
