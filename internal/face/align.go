package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// Size of the template for a model of 256 pixels, and what LatentSync's crop
// is stretched from (spec/latentsync 3.4). A model of R pixels has a crop of
// int(R·TemplateW/256) x int(R·TemplateH/256).
const (
	TemplateW = 210
	TemplateH = 280
)

// Anchors are the three points that the alignment goes by: image-left brow,
// image-right brow, nose; x, y in picture pixels.
type Anchors [3][2]float64

// AlignPoints468 gives the anchors from MediaPipe's points, by the table of
// LatentSync 1.0; nothing is rounded.
func AlignPoints468(p []Point) Anchors {
	return Anchors{meanOf(p, alignP0), meanOf(p, alignP1), meanOf(p, alignP2)}
}

// AlignPoints106 gives the anchors from InsightFace's 106 points, rounded as
// LatentSync 1.5 and 1.6 do: the points, then their means, half to even.
func AlignPoints106(p []Point) Anchors {
	q := make([]Point, len(p))
	for i, v := range p {
		q[i] = Point{X: math.RoundToEven(v.X), Y: math.RoundToEven(v.Y)}
	}
	return Anchors{
		meanOf(q, []int{43, 48, 49, 51, 50}), meanOf(q, []int{101, 102, 103, 104, 105}), meanOf(q, []int{74, 77, 83, 86}),
	}.Round()
}

// Round rounds to whole pixels, half to even, which LatentSync does between
// landmarks and matrix.
func (a Anchors) Round() Anchors {
	for i := range a {
		a[i] = [2]float64{math.RoundToEven(a[i][0]), math.RoundToEven(a[i][1])}
	}
	return a
}

func meanOf(p []Point, indices []int) [2]float64 {
	var x, y float64
	for _, i := range indices {
		x += p[i].X
		y += p[i].Y
	}
	n := float64(len(indices))
	return [2]float64{x / n, y / n}
}

// similarity is the closed form of 3.4 for the template enlarged rho times
// (2.8 for 256): standard deviations give the scale, an orthogonal fit of the
// normalised points the rotation. bias is what remains at the nose, in
// normalised units.
func similarity(p Anchors, rho float64) (m frame.Affine, bias [2]float64) {
	q := Anchors{{17 * rho, 20 * rho}, {58 * rho, 20 * rho}, {37.5 * rho, 40 * rho}}
	a, c1, s1 := normalise(p)
	b, c2, s2 := normalise(q)
	// The rotation that best takes a to b has the angle of the sums below:
	// V·Uᵀ of the SVD in the spec, with the reflection excluded.
	var dot, cross float64
	for i := range a {
		dot += a[i][0]*b[i][0] + a[i][1]*b[i][1]
		cross += a[i][0]*b[i][1] - a[i][1]*b[i][0]
	}
	n := math.Hypot(dot, cross)
	if n == 0 || s1 == 0 {
		return frame.Affine{}, bias // the points coincide
	}
	cos, sin := dot/n*s2/s1, cross/n*s2/s1
	m = frame.Affine{A: cos, B: -sin, D: sin, E: cos}
	m.C = c2[0] - (m.A*c1[0] + m.B*c1[1])
	m.F = c2[1] - (m.D*c1[0] + m.E*c1[1])
	return m, [2]float64{b[2][0] - a[2][0], b[2][1] - a[2][1]}
}

// normalise centres the points and divides by the unbiased deviation over all
// six centred coordinates.
func normalise(p Anchors) (q Anchors, c [2]float64, s float64) {
	for _, v := range p {
		c[0] += v[0] / 3
		c[1] += v[1] / 3
	}
	for _, v := range p {
		s += (v[0]-c[0])*(v[0]-c[0]) + (v[1]-c[1])*(v[1]-c[1])
	}
	s = math.Sqrt(s / 5)
	for i, v := range p {
		q[i] = [2]float64{(v[0] - c[0]) / s, (v[1] - c[1]) / s}
	}
	return q, c, s
}

// TemplateAffine maps the picture to the template of 210 x 280 by the anchors,
// without LatentSync's bias and roundings.
func TemplateAffine(a Anchors) frame.Affine {
	m, _ := similarity(a, TemplateW/75.0)
	return m
}

// Aligner does LatentSync's alignment for one model size, in float32
// semantics: matrix, crop, restore. The matrix has a state that runs through
// the frames of a job.
type Aligner struct {
	Resolution   int // of the model: 256 or 512
	CropW, CropH int // of the crop before the stretch: 210 x 280 or 420 x 560

	rho     float64
	bias    [2]float64
	hasBias bool
	lanczos [2]*lanczos // columns, rows
	bicubic [2]*bicubic
}

// NewAligner makes an aligner for a model of resolution x resolution pixels.
func NewAligner(resolution int) *Aligner {
	rho := float64(resolution) / 256 * 2.8
	a := &Aligner{Resolution: resolution, rho: rho, CropW: int(75 * rho), CropH: int(100 * rho)}
	a.lanczos = [2]*lanczos{newLanczos(a.CropW, resolution), newLanczos(a.CropH, resolution)}
	a.bicubic = [2]*bicubic{newBicubic(resolution, a.CropW), newBicubic(resolution, a.CropH)}
	return a
}

// Matrix gives the map from the picture to the crop of CropW x CropH and
// advances the bias: call it once for each frame, in order.
func (a *Aligner) Matrix(p Anchors) frame.Affine {
	m, b := similarity(p, a.rho)
	if a.hasBias {
		b[0] = 0.2*a.bias[0] + 0.8*b[0]
		b[1] = 0.2*a.bias[1] + 0.8*b[1]
	}
	a.bias, a.hasBias = b, true
	m.C += b[0]
	m.F += b[1]
	return single(m)
}

// Reset forgets the bias: at the start of a job, and after a cut where exact
// parity with the original is not wanted.
func (a *Aligner) Reset() { a.bias, a.hasBias = [2]float64{}, false }

// single rounds the elements to float32, which is how they are stored.
func single(m frame.Affine) frame.Affine {
	f := func(v float64) float64 { return float64(float32(v)) }
	return frame.Affine{A: f(m.A), B: f(m.B), C: f(m.C), D: f(m.D), E: f(m.E), F: f(m.F)}
}

// Crop cuts the aligned face out of the picture (3.5): bilinear, truncated,
// 127 where nothing covers it, then Lanczos to Resolution x Resolution.
func (a *Aligner) Crop(src frame.Source, m frame.Affine) *frame.RGB {
	crop := a.warp(src, m)
	return resizeLanczos(crop, a.lanczos[0], a.lanczos[1])
}

// warp is the crop of CropW x CropH before the stretch.
func (a *Aligner) warp(src frame.Source, m frame.Affine) *frame.RGB {
	dst := frame.NewRGB(a.CropW, a.CropH)
	for i := range dst.Pix {
		dst.Pix[i] = 127
	}
	inv, ok := m.Invert()
	if !ok {
		return dst
	}
	pic, ox, oy := part(src, inv, a.CropW, a.CropH)
	if pic == nil {
		return dst
	}
	for v := range dst.H {
		for u := range dst.W {
			x, y := inv.Apply(float64(u), float64(v))
			x, y = x-float64(ox), y-float64(oy)
			if !(x > -1 && y > -1 && x < float64(pic.W) && y < float64(pic.H)) {
				continue
			}
			fx, fy := math.Floor(x), math.Floor(y)
			ix, iy := int(fx), int(fy)
			wx, wy := x-fx, y-fy
			var sum [3]float64
			var cov float64
			for k := range 4 {
				jx, jy := ix+k&1, iy+k>>1
				if uint(jx) >= uint(pic.W) || uint(jy) >= uint(pic.H) {
					continue
				}
				w := (1 - wx)
				if k&1 == 1 {
					w = wx
				}
				if k>>1 == 1 {
					w *= wy
				} else {
					w *= 1 - wy
				}
				cov += w
				p := pic.Pix[3*(jy*pic.W+jx):]
				sum[0] += w * float64(p[0])
				sum[1] += w * float64(p[1])
				sum[2] += w * float64(p[2])
			}
			q := dst.Pix[3*(v*dst.W+u):]
			for c := range 3 {
				q[c] = byte(min(max(sum[c]+(1-cov)*127, 0), 255))
			}
		}
	}
	return dst
}

// part gives the pixels of src that the w x h rectangle mapped by m can touch,
// and their offset; nil when there are none. A *frame.RGB is used as it is.
func part(src frame.Source, m frame.Affine, w, h int) (pic *frame.RGB, x0, y0 int) {
	if p, ok := src.(*frame.RGB); ok {
		return p, 0, 0
	}
	sw, sh := src.Size()
	x0, y0, x1, y1 := mappedBox(m, w, h, sw, sh, 1)
	if x0 >= x1 || y0 >= y1 {
		return nil, 0, 0
	}
	pic = frame.NewRGB(x1-x0, y1-y0)
	src.Warp(pic, frame.Affine{A: 1, C: float64(x0), E: 1, F: float64(y0)}, frame.Replicate, 0)
	return pic, x0, y0
}

// mappedBox is the half-open box of the pixels of a sw x sh picture within
// margin of the w x h rectangle mapped by m.
func mappedBox(m frame.Affine, w, h, sw, sh, margin int) (x0, y0, x1, y1 int) {
	lx, ly, hx, hy := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, u := range []float64{-1, float64(w)} {
		for _, v := range []float64{-1, float64(h)} {
			x, y := m.Apply(u, v)
			lx, hx = math.Min(lx, x), math.Max(hx, x)
			ly, hy = math.Min(ly, y), math.Max(hy, y)
		}
	}
	limit := func(v float64, n int) int { return int(math.Min(math.Max(v, 0), float64(n))) }
	d := float64(margin)
	return limit(math.Floor(lx)-d, sw), limit(math.Floor(ly)-d, sh), limit(math.Ceil(hx)+d+1, sw), limit(math.Ceil(hy)+d+1, sh)
}
