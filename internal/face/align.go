package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// The size of the template for a model of 256 pixels. A model of R pixels has a crop of
// int(R·TemplateW/256) x int(R·TemplateH/256), which LatentSync stretches to R x R
// (docs/spec/latentsync.md, section 3.4).
const (
	TemplateW = 210
	TemplateH = 280
)

// Anchors are the three points of the alignment: image-left brow, image-right
// brow, nose; x, y in image pixels.
type Anchors [3][2]float64

// AlignPoints468 returns the anchors from MediaPipe's points, by the table of
// LatentSync 1.0, without rounding.
func AlignPoints468(p []Point) Anchors {
	return Anchors{meanOf(p, alignP0), meanOf(p, alignP1), meanOf(p, alignP2)}
}

// Round rounds to whole pixels, half to even, as LatentSync does between landmarks and
// matrix.
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

// similarity returns the map from the image to the template enlarged rho times (2.8 for
// 256), in the original's float32 arithmetic (docs/spec/latentsync.md, section 3.4). The
// scale comes from standard deviations, the rotation from an orthogonal fit of the
// normalised points. bias is the error that remains at the nose, in normalised units.
func similarity(p Anchors, rho float64) (m frame.Affine, bias [2]float32) {
	a, c1, s1 := normalise(p)
	b, c2, s2 := normalise(Anchors{{17 * rho, 20 * rho}, {58 * rho, 20 * rho}, {37.5 * rho, 40 * rho}})
	if !(s1 > 0) {
		return frame.Affine{}, bias // the points coincide
	}
	var cov mat2
	for i := range cov {
		for j := range cov[i] {
			for k := range a {
				cov[i][j] += float32(a[k][i] * b[k][j])
			}
		}
	}
	u, v := svd2(cov)
	r := v.mulT(u)
	if float32(r[0][0]*r[1][1]) < float32(r[0][1]*r[1][0]) { // a reflection
		v[0][1], v[1][1] = -v[0][1], -v[1][1]
		r = v.mulT(u)
	}
	scale := s2 / s1
	row := func(i int) (x, y, shift float64) {
		t := float32(r[i][0]*c1[0]) + float32(r[i][1]*c1[1])
		return float64(scale * r[i][0]), float64(scale * r[i][1]), float64(c2[i] - float32(scale*t))
	}
	m.A, m.B, m.C = row(0)
	m.D, m.E, m.F = row(1)
	return m, [2]float32{b[2][0] - a[2][0], b[2][1] - a[2][1]}
}

// normalise subtracts the centre c from the points and divides by s, the unbiased
// deviation of all six centred coordinates, which torch computes in float64.
func normalise(p Anchors) (q [3][2]float32, c [2]float32, s float32) {
	for i := range c {
		c[i] = (float32(p[0][i]) + float32(p[1][i]) + float32(p[2][i])) / 3
	}
	var mean float32
	for i, v := range p {
		q[i] = [2]float32{float32(v[0]) - c[0], float32(v[1]) - c[1]}
		mean += q[i][0]
		mean += q[i][1]
	}
	mean /= 6
	var sum float64
	for _, v := range q {
		dx, dy := float64(v[0])-float64(mean), float64(v[1])-float64(mean)
		sum += dx * dx
		sum += dy * dy
	}
	s = float32(math.Sqrt(sum / 5))
	for i := range q {
		q[i][0] /= s
		q[i][1] /= s
	}
	return q, c, s
}

// TemplateAffine returns the map from the image to the template of 210 x 280, without
// LatentSync's bias and rounding.
func TemplateAffine(a Anchors) frame.Affine {
	m, _ := similarity(a, TemplateW/75.0)
	return m
}

// Aligner computes LatentSync's matrices, crops faces and restores them, for one model
// size and in the original's float32 arithmetic (warp32.go). A matrix depends on the
// earlier frames of the job.
type Aligner struct {
	Resolution   int // of the model: 256 or 512
	CropW, CropH int // of the crop before the stretch: 210 x 280 or 420 x 560

	rho     float64
	bias    [2]float32
	hasBias bool
	lanczos [2]axis[int32] // columns, rows
	bicubic [2]axis[float32]
}

// NewAligner returns an aligner for a model of resolution x resolution pixels.
func NewAligner(resolution int) *Aligner {
	rho := float64(resolution) / 256 * 2.8
	a := &Aligner{Resolution: resolution, rho: rho, CropW: int(75 * rho), CropH: int(100 * rho)}
	a.lanczos = [2]axis[int32]{newLanczos(a.CropW, resolution), newLanczos(a.CropH, resolution)}
	a.bicubic = [2]axis[float32]{newBicubic(resolution, a.CropW), newBicubic(resolution, a.CropH)}
	return a
}

// Matrix returns the map from the image to the crop of CropW x CropH, with elements of
// float32. Call it once for each frame, in order: it smooths the bias over the frames.
func (a *Aligner) Matrix(p Anchors) frame.Affine {
	m, b := similarity(p, a.rho)
	if a.hasBias {
		for i := range b {
			b[i] = float32(a.bias[i]*0.2) + float32(b[i]*0.8)
		}
	}
	a.bias, a.hasBias = b, true
	m.C = float64(float32(m.C) + b[0])
	m.F = float64(float32(m.F) + b[1])
	return m
}

// Reset forgets the bias, as after a cut; the original does not.
func (a *Aligner) Reset() { a.bias, a.hasBias = [2]float32{}, false }

// Crop cuts the aligned face out of the image and resizes it to Resolution x Resolution
// (docs/spec/latentsync.md, section 3.5): first bilinearly, truncated, with 127 beyond
// the image, then with Lanczos weights.
func (a *Aligner) Crop(src frame.Source, m frame.Affine) *frame.RGB {
	return lanczos(a.warp(src, m), a.lanczos[0], a.lanczos[1])
}

// Resize resizes a face from the model, [3,R,R] planar, to the crop,
// [3,CropH,CropW], and does not clamp it (docs/spec/latentsync.md, section 7.2).
func (a *Aligner) Resize(face []float32) []float32 {
	return resize(face, 3, a.bicubic[0], a.bicubic[1])
}

// warp returns the crop of CropW x CropH before it is resized.
func (a *Aligner) warp(src frame.Source, m frame.Affine) *frame.RGB {
	dst := frame.NewRGB(a.CropW, a.CropH)
	for i := range dst.Pix {
		dst.Pix[i] = 127
	}
	inv, ok := m.Invert()
	if !ok {
		return dst
	}
	sw, sh := src.Size()
	warp, ok := newWarper(homography(m), sw, sh, dst.W, dst.H)
	if !ok {
		return dst
	}
	region, x0, y0 := region(src, inv, a.CropW, a.CropH)
	if region == nil {
		return dst
	}
	image := samples[byte]{region.Pix, x0, y0, region.W, region.H, 3, 1}
	for v := range dst.H {
		for u := range dst.W {
			sum, cover := image.at(warp.at(u, v))
			q := dst.Pix[3*(v*dst.W+u):]
			for c := range 3 {
				q[c] = byte(min(max(sum[c]+float32((1-cover)*127), 0), 255))
			}
		}
	}
	return dst
}

// region returns the pixels of src that the w x h rectangle mapped by m can touch,
// and their offset, or nil if there are none. A *frame.RGB is used whole.
func region(src frame.Source, m frame.Affine, w, h int) (pixels *frame.RGB, x0, y0 int) {
	if p, ok := src.(*frame.RGB); ok {
		return p, 0, 0
	}
	sw, sh := src.Size()
	x0, y0, x1, y1 := mappedBox(m, w, h, sw, sh, 1)
	if x0 >= x1 || y0 >= y1 {
		return nil, 0, 0
	}
	pixels = frame.NewRGB(x1-x0, y1-y0)
	src.Warp(pixels, frame.Affine{A: 1, C: float64(x0), E: 1, F: float64(y0)}, frame.Replicate, 0)
	return pixels, x0, y0
}

// mappedBox returns the half-open box of the pixels of a sw x sh image within margin of
// the w x h rectangle mapped by m.
func mappedBox(m frame.Affine, w, h, sw, sh, margin int) (x0, y0, x1, y1 int) {
	var corners []Point
	for _, u := range []float64{-1, float64(w)} {
		for _, v := range []float64{-1, float64(h)} {
			x, y := m.Apply(u, v)
			corners = append(corners, Point{X: x, Y: y})
		}
	}
	left, top, right, bottom := bounds(corners)
	limit := func(v float64, n int) int { return int(min(max(v, 0), float64(n))) }
	d := float64(margin)
	return limit(math.Floor(left)-d, sw), limit(math.Floor(top)-d, sh), limit(math.Ceil(right)+d+1, sw), limit(math.Ceil(bottom)+d+1, sh)
}
