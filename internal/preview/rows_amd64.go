package preview

import (
	"math"

	"golang.org/x/sys/cpu"
)

// fast says whether the processor can run the functions in assembly. They compute what
// their namesakes in Go compute, bit for bit, for a multiple of group samples.
var fast = cpu.X86.HasAVX2

// fastCubic does cubicSlow's work from the beginning of the row to before a group with a
// sample outside the patch, or to before the last samples. It returns how many it has done.
func (p *patch) fastCubic(dst []float32, changed []bool, x, y int, dx, dy []float32) int {
	n := len(dst) / group * group
	if !fast || n == 0 || p.Dx() < 4 || p.Dy() < 4 {
		return 0
	}
	_, _, _ = changed[n-1], dx[n-1], dy[n-1]
	left, top := (x-p.Min.X-1)*fine, (y-p.Min.Y-1)*fine
	return cubicAVX2(&dst[0], &changed[0], &dx[0], &dy[0], n, &p.v[0], p.Dx(), left, top, p.Dx()-3, p.Dy()-3)
}

// fastLinear does the same for linearSlow.
func fastLinear(dstP, dstQ []float32, p, q *patch, changed []bool, x, y int, dx, dy []float32, shiftX, shiftY int) int {
	n := min(len(changed), len(dx)>>shiftX, len(dy)>>shiftX) / group * group
	if !fast || n == 0 || p.Dx() < 2 || p.Dy() < 2 || p.Rectangle != q.Rectangle {
		return 0
	}
	_, _ = dstP[n-1], dstQ[n-1]
	left, top := (x-p.Min.X)*fine, (y-p.Min.Y)*fine
	return linearAVX2(&dstP[0], &dstQ[0], &changed[0], &dx[0], &dy[0], n, &p.v[0], &q.v[0], p.Dx(), left, top,
		p.Dx()-1, p.Dy()-1, shiftX, 1/float32(int(1)<<shiftX), 1/float32(int(1)<<shiftY))
}

// fastWiden does the same for widenSlow.
func fastWiden(dst []float32, src []byte, depth int) int {
	n := len(dst) / group * group
	switch {
	case !fast || n == 0:
		return 0
	case depth == 8:
		_ = src[n-1]
		widen8AVX2(&dst[0], &src[0], n)
	default:
		_ = src[2*n-1]
		widen16AVX2(&dst[0], &src[0], n, 1/float32(int(1)<<(depth-8)))
	}
	return n
}

// fastPut does the same for putSlow.
func fastPut(row []byte, v []float32, changed []bool, depth int) int {
	n := len(v) / group * group
	switch {
	case !fast || n == 0:
		return 0
	case depth == 8:
		_, _ = row[n-1], changed[n-1]
		put8AVX2(&row[0], &v[0], &changed[0], n)
	default:
		_, _ = row[2*n-1], changed[n-1]
		put16AVX2(&row[0], &v[0], &changed[0], n, float32(int(1)<<(depth-8)), int32(1)<<depth-1)
	}
	return n
}

// fastFill does the work of fillSlow.
func (f *field) fastFill() {
	r := &f.ramps
	// The rows are within the field, so their columns are, which the spans limit, too.
	row := r.y - f.Min.Y
	_ = f.spans[row+r.rows-1]
	job := fillJob{ramps: *r, spans: &f.spans[row], dx: &f.dx[f.at(r.x0, r.y)], dy: &f.dy[f.at(r.x0, r.y)], stride: f.Dx()}
	for i, v := range r.inverse {
		// A bound of lo is no bound of hi, and the other way around.
		if job.negated[i] = -v; v > 0 {
			job.noHi[i] = math.Inf(1)
		} else {
			job.noLo[i] = math.Inf(-1)
		}
	}
	job.noHi[3] = math.Inf(1)
	job.noLo[3] = math.Inf(-1)
	for i := range job.stepX {
		job.stepX[i], job.stepY[i] = float64(i)*r.step.x, float64(i)*r.step.y
	}
	fillAVX2(&job)
}

// fillJob is what fillAVX2 works on.
type fillJob struct {
	ramps
	spans        *span      // of the first row
	dx, dy       *float32   // of the first column in the first row
	stride       int        // columns of the field
	negated      [4]float64 // the inverse slopes
	noLo, noHi   [4]float64 // added to what is no bound of lo, or of hi
	stepX, stepY [4]float64 // steps of 0 to 3 columns
}

// fastFade does fadeSlow's work for the first pixels of a row and returns how many it has done.
func (m *mask) fastFade(dx, dy []float32, u, v, du, dv int, scale float32) int {
	n := len(dx) / group * group
	if !fast || n == 0 {
		return 0
	}
	_ = dy[n-1]
	fadeAVX2(&dx[0], &dy[0], n, u, v, du, dv, &m.alpha[0], &m.floor[0], scale)
	return n
}

// fastMoves does the work of markMoves for the first samples of a row and returns how many it has
// done.
func fastMoves(changed []bool, dx, dy []float32, shift int) int {
	n := min(len(changed), len(dx)>>shift, len(dy)>>shift) / group * group
	if fast && n > 0 {
		movesAVX2(&changed[0], &dx[0], &dy[0], n, shift)
		return n
	}
	return 0
}

// fastMean does the work of mean for the first samples of a row and returns how many it has
// done.
func fastMean(v, w []float32) int {
	n := len(v) / group * group
	if !fast || n == 0 {
		return 0
	}
	_ = w[n-1]
	meanAVX2(&v[0], &w[0], n)
	return n
}

//go:noescape
func fillAVX2(job *fillJob)

//go:noescape
func fadeAVX2(dx, dy *float32, n, u, v, du, dv int, alpha, floor *float32, scale float32)

//go:noescape
func movesAVX2(changed *bool, dx, dy *float32, n, shift int)

//go:noescape
func meanAVX2(v, w *float32, n int)

//go:noescape
func cubicAVX2(dst *float32, changed *bool, dx, dy *float32, n int, v *float32, w, left, top, lastX, lastY int) int

//go:noescape
func linearAVX2(dstP, dstQ *float32, changed *bool, dx, dy *float32, n int, p, q *float32, w, left, top, lastX, lastY, shiftX int, scaleX, scaleY float32) int

//go:noescape
func widen8AVX2(dst *float32, src *byte, n int)

//go:noescape
func widen16AVX2(dst *float32, src *byte, n int, scale float32)

//go:noescape
func put8AVX2(row *byte, v *float32, changed *bool, n int)

//go:noescape
func put16AVX2(row *byte, v *float32, changed *bool, n int, scale float32, top int32)
