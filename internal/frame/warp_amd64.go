package frame

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// fast says whether the processor can run the functions of warp_amd64.s.
var fast = cpu.X86.HasAVX2

// warpJob is what warp8AVX2 and warp16AVX2 work on: a row whose samples are all within the
// planes.
type warpJob struct {
	dst     *byte             // packed R,G,B
	n       int               // pixels, a multiple of group
	planes  [3]unsafe.Pointer // of samples
	w, cw   int               // samples in a row of luma and chroma
	x, y    [8]int64          // of the first pixels: 0, 1, 4, 5, 2, 3, 6, 7
	stepX   int64             // of group pixels
	stepY   int64
	shiftX  int64
	shiftY  int64
	siteY   int64
	yMul    int64 // the factors of toRGB, gu and gv negated
	rv      int64
	gu, gv  int64
	bu      int64
	r, g, b int64 // r0, g0 and b0 of toRGB
}

const group = 8 // pixels that are computed at a time

// warpRow fills the first pixels of a row, as many as are a multiple of group, and returns
// their number. All positions must be within the planes.
func warpRow[T sample](f *Frame, t *toRGB, row []byte, px, py, stepX, stepY, siteY int64) int {
	n := len(row) / 3 / group * group
	if !fast || n == 0 {
		return 0
	}
	job := warpJob{
		dst: &row[0], n: n, w: f.Width, stepX: group * stepX, stepY: group * stepY,
		shiftX: int64(f.ShiftX), shiftY: int64(f.ShiftY), siteY: siteY,
		yMul: t.y, rv: t.rv, gu: -t.gu, gv: -t.gv, bu: t.bu, r: t.r0, g: t.g0, b: t.b0,
	}
	job.cw, _ = f.PlaneSize(1)
	for i := range job.planes {
		job.planes[i] = unsafe.Pointer(&f.Planes[i][0])
	}
	for i, k := range [...]int64{0, 1, 4, 5, 2, 3, 6, 7} {
		job.x[i], job.y[i] = px+k*stepX, py+k*stepY
	}
	if unsafe.Sizeof(T(0)) == 1 {
		warp8AVX2(&job)
	} else {
		warp16AVX2(&job)
	}
	return n
}

//go:noescape
func warp8AVX2(job *warpJob)

//go:noescape
func warp16AVX2(job *warpJob)
