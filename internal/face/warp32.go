package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// This file repeats the float32 arithmetic of the original's alignment operation by
// operation. Values are truncated to whole levels, so a difference in the last bit can
// become one of a level, which the networks amplify. The reference is torch 2.x on a CPU
// with AVX2 or AVX-512, and kornia 0.8.0.
//
// Go may compute x*y + z with one rounding; the conversion float32(x*y) prevents that.
// fma32 is used where torch rounds once.

// fma32 returns x·y + z, rounded once. The product is exact in float64. The sum is rounded
// to float64 first, which matters only within 2^-53 of a tie.
func fma32(x, y, z float32) float32 { return float32(float64(x)*float64(y) + float64(z)) }

func sqrt32(v float32) float32        { return float32(math.Sqrt(float64(v))) }
func abs32(v float32) float32         { return float32(math.Abs(float64(v))) }
func sign32(size, of float32) float32 { return float32(math.Copysign(float64(size), float64(of))) }

type mat2 [2][2]float32

// mulT returns a·bᵀ.
func (a mat2) mulT(b mat2) (m mat2) {
	for i := range m {
		for j := range m[i] {
			m[i][j] = float32(a[i][0]*b[j][0]) + float32(a[i][1]*b[j][1])
		}
	}
	return m
}

// svd2 returns U and V of a = U·diag(s)·Vᵀ with s descending, as LAPACK's sgesdd computes
// them for 2 x 2: a Householder reflection makes a upper triangular (sgebd2), and two
// rotations make it diagonal (sbdsqr).
func svd2(a mat2) (u, v mat2) {
	// slarfg and slarf: I - tau·(1,h)·(1,h)ᵀ turns the left column into (d0,0).
	d0, e, d1 := a[0][0], a[0][1], a[1][1]
	var tau, h float32
	if low := a[1][0]; low != 0 {
		d0 = -sign32(norm32(a[0][0], low), a[0][0])
		tau = (d0 - a[0][0]) / d0
		h = low * (1 / (a[0][0] - d0))
		w := e + float32(d1*h)
		e -= float32(tau * w)
		d1 -= float32(h * float32(tau*w))
	}
	u, v = mat2{{1, 0}, {0, 1}}, mat2{{1, 0}, {0, 1}}
	s0, s1 := d0, d1
	// sbdsqr treats e as zero below 10 epsilon of a bound of the smaller value.
	least := abs32(d0)
	if least != 0 {
		least = min(least, abs32(d1)*(least/(least+abs32(e))))
	}
	if abs32(e) > float32(10*0x1p-24)*(least/sqrt32(2)) {
		var sinR, cosR, sinL, cosL float32
		s1, s0, sinR, cosR, sinL, cosL = slasv2(d0, e, d1)
		u = mat2{{cosL, -sinL}, {sinL, cosL}}
		v = mat2{{cosR, -sinR}, {sinR, cosR}}
	}
	if s0 < 0 {
		s0, v[0][0], v[1][0] = -s0, -v[0][0], -v[1][0]
	}
	if s1 < 0 {
		s1, v[0][1], v[1][1] = -s1, -v[0][1], -v[1][1]
	}
	if s1 > s0 {
		for i := range u {
			u[i][0], u[i][1] = u[i][1], u[i][0]
			v[i][0], v[i][1] = v[i][1], v[i][0]
		}
	}
	if tau != 0 { // sormbr: apply the reflection to u
		for j := range 2 {
			w := u[0][j] + float32(h*u[1][j])
			u[0][j] -= float32(tau * w)
			u[1][j] -= float32(h * float32(tau*w))
		}
	}
	return u, v
}

// norm32 returns the length of (x, y), y not zero, as LAPACK's slapy2 does.
func norm32(x, y float32) float32 {
	x, y = abs32(x), abs32(y)
	long, q := max(x, y), min(x, y)/max(x, y)
	return long * sqrt32(1+float32(q*q))
}

// slasv2 decomposes the matrix with the rows (f, g) and (0, h), as LAPACK does. It returns
// the smaller and the larger singular value with signs, and the sines and cosines of the
// right and the left rotation.
func slasv2(f, g, h float32) (ssmin, ssmax, sinR, cosR, sinL, cosL float32) {
	ft, fa, ht, ha := f, abs32(f), h, abs32(h)
	swap := ha > fa
	if swap {
		ft, fa, ht, ha = ht, ha, ft, fa
	}
	ga := abs32(g)
	largest := 'f'
	if swap {
		largest = 'h'
	}
	var cl, cr, sl, sr float32
	switch {
	case ga == 0:
		ssmin, ssmax, cl, cr = ha, fa, 1, 1
	case ga > fa && fa/ga < 0x1p-24: // g is much larger than f and h
		largest, ssmax = 'g', ga
		if ha > 1 {
			ssmin = fa / (ga / ha)
		} else {
			ssmin = fa / ga * ha
		}
		cl, sl, sr, cr = 1, ht/g, 1, ft/g
	default:
		if ga > fa {
			largest = 'g'
		}
		d := fa - ha
		l := d / fa
		if d == fa {
			l = 1
		}
		m := g / ft
		t := 2 - l
		mm := float32(m * m)
		s := sqrt32(float32(t*t) + mm)
		r := abs32(m)
		if l != 0 {
			r = sqrt32(float32(l*l) + mm)
		}
		a := 0.5 * (s + r)
		ssmin, ssmax = ha/a, fa*a
		switch {
		case mm != 0:
			t = (m/(s+t) + m/(r+l)) * (1 + a)
		case l == 0:
			t = sign32(2, ft) * sign32(1, g)
		default:
			t = g/sign32(d, ft) + m/t
		}
		l = sqrt32(float32(t*t) + 4)
		cr, sr = 2/l, t/l
		cl, sl = (cr+float32(sr*m))/a, ht/ft*sr/a
	}
	cosL, sinL, cosR, sinR = cl, sl, cr, sr
	if swap {
		cosL, sinL, cosR, sinR = sr, cr, sl, cl
	}
	var sign float32
	switch largest {
	case 'f':
		sign = sign32(1, cosR) * sign32(1, cosL) * sign32(1, f)
	case 'g':
		sign = sign32(1, sinR) * sign32(1, cosL) * sign32(1, g)
	case 'h':
		sign = sign32(1, sinR) * sign32(1, sinL) * sign32(1, h)
	}
	return sign32(ssmin, sign*sign32(1, f)*sign32(1, h)), sign32(ssmax, sign), sinR, cosR, sinL, cosL
}

type mat3 [3][3]float32

// homography does what kornia's convert_affinematrix_to_homography does.
func homography(m frame.Affine) mat3 {
	return mat3{
		{float32(m.A), float32(m.B), float32(m.C)},
		{float32(m.D), float32(m.E), float32(m.F)},
		{0, 0, 1},
	}
}

// mul returns a·b, added up from left to right, as torch does for small matrices.
func (a mat3) mul(b mat3) (m mat3) {
	for i := range m {
		for j := range m[i] {
			for k := range b {
				m[i][j] += float32(a[i][k] * b[k][j])
			}
		}
	}
	return m
}

// invert does what torch.linalg.inv does: it decomposes the matrix into LU with row
// pivots, then solves for the columns of the unit matrix one by one. It multiplies by the
// reciprocals of the pivots instead of dividing. It reports false for a matrix that has
// no inverse.
func (a mat3) invert() (inv mat3, ok bool) {
	inv = mat3{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	var reciprocal [3]float32
	for k := range a {
		top := k
		for i := k + 1; i < 3; i++ {
			if abs32(a[i][k]) > abs32(a[top][k]) {
				top = i
			}
		}
		if p := abs32(a[top][k]); !(p > 0 && p <= math.MaxFloat32) {
			return mat3{}, false
		}
		a[k], a[top] = a[top], a[k]
		inv[k], inv[top] = inv[top], inv[k]
		reciprocal[k] = 1 / a[k][k]
		for i := k + 1; i < 3; i++ {
			a[i][k] *= reciprocal[k]
			for j := k + 1; j < 3; j++ {
				a[i][j] -= float32(a[i][k] * a[k][j])
			}
		}
	}
	for c := range inv {
		for i := range inv {
			for k := range i {
				inv[i][c] -= float32(a[i][k] * inv[k][c])
			}
		}
		for i := 2; i >= 0; i-- {
			for k := i + 1; k < 3; k++ {
				inv[i][c] -= float32(a[i][k] * inv[k][c])
			}
			inv[i][c] *= reciprocal[i]
		}
	}
	return inv, true
}

// toUnit returns the map from pixels of a w x h image to -1..1, as kornia's
// normal_transform_pixel does. It is not finite for a side of 1.
func toUnit(w, h int) mat3 {
	return mat3{{2 / float32(w-1), 0, -1}, {0, 2 / float32(h-1), -1}, {0, 0, 1}}
}

// linspace does what torch.linspace(-1, 1, n) does, which counts from both ends.
func linspace(n int) []float32 {
	v := make([]float32, n)
	step := 2 / float32(n-1)
	for i := range v {
		if i < n/2 {
			v[i] = fma32(step, float32(i), -1)
		} else {
			v[i] = fma32(-step, float32(n-1-i), 1)
		}
	}
	return v
}

// warper does what kornia's warp_affine does before sampling: it computes the place in
// the source of each pixel of the result.
type warper struct {
	xs, ys []float32     // columns and rows of the result, -1..1
	t      [2][3]float32 // from those to the source, -1..1
	sx, sy float32       // from there to pixels: half of the size less one
}

// newWarper returns the warper for the map m from a source of sw x sh pixels to a result
// of w x h. It reports false if m has no inverse or a side is 1.
func newWarper(m mat3, sw, sh, w, h int) (p *warper, ok bool) {
	pixels, ok := toUnit(sw, sh).invert()
	if !ok {
		return nil, false
	}
	inv, ok := toUnit(w, h).mul(m.mul(pixels)).invert()
	if !ok {
		return nil, false
	}
	return &warper{
		xs: linspace(w), ys: linspace(h), t: [2][3]float32{inv[0], inv[1]},
		sx: float32(sw-1) / 2, sy: float32(sh-1) / 2,
	}, true
}

// at returns the place in the source of pixel u, v of the result, as affine_grid and
// grid_sample compute it.
func (p *warper) at(u, v int) (x, y float32) {
	x = float32(p.xs[u]*p.t[0][0]) + float32(p.ys[v]*p.t[0][1]) + p.t[0][2]
	y = float32(p.xs[u]*p.t[1][0]) + float32(p.ys[v]*p.t[1][1]) + p.t[1][2]
	return float32((x + 1) * p.sx), float32((y + 1) * p.sy)
}

// samples is an image to sample, or the part of it whose upper left pixel is (x0, y0).
// The values of a pixel lie channel apart, the values of neighbouring pixels lie pixel
// apart.
type samples[T byte | float32] struct {
	pix            []T
	x0, y0, w, h   int
	pixel, channel int
}

// at returns the bilinear mean of the four pixels around x, y, where those beyond the
// image count as 0, and the weight of those inside.
func (s *samples[T]) at(x, y float32) (sum [3]float32, cover float32) {
	fx, fy := float32(math.Floor(float64(x))), float32(math.Floor(float64(y)))
	right, lower := x-fx, y-fy
	left, upper := 1-right, 1-lower
	for k, weight := range [4]float32{float32(upper * left), float32(upper * right), float32(lower * left), float32(lower * right)} {
		jx, jy := int(fx)-s.x0+k&1, int(fy)-s.y0+k>>1
		if uint(jx) >= uint(s.w) || uint(jy) >= uint(s.h) {
			continue
		}
		cover += weight
		at := (jy*s.w + jx) * s.pixel
		for c := range sum {
			sum[c] = fma32(weight, float32(s.pix[at+c*s.channel]), sum[c])
		}
	}
	return sum, cover
}
