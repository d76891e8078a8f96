package preview

import (
	"image"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// randomRow has displacements that change slowly, or of which some are far, some too small to
// count, and some 0.
func randomRow(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	if r.IntN(2) == 0 { // smooth
		at, step := r.NormFloat64()*4, r.NormFloat64()*0.03
		for i := range v {
			v[i] = float32(at + step*float64(i))
		}
		return v
	}
	for i := range v {
		switch r.IntN(8) {
		case 0:
			v[i] = float32(r.NormFloat64() * 200)
		case 1:
			v[i] = stillPixel * float32(r.Float64()*2-1) * 2
		case 2:
			v[i] = [...]float32{stillPixel, -stillPixel, math.Nextafter32(stillPixel, 1), 0}[r.IntN(4)]
		default:
			v[i] = float32(r.NormFloat64() * 4)
		}
	}
	return v
}

func randomPatch(r *rand.Rand, at image.Rectangle) *patch {
	p := &patch{Rectangle: at, v: make([]float32, at.Dx()*at.Dy())}
	for i := range p.v {
		p.v[i] = float32(r.IntN(1024)) / 4
	}
	return p
}

func randomFlags(r *rand.Rand, n int) []bool {
	v := make([]bool, n)
	some := r.IntN(4)
	for i := range v {
		v[i] = some > 0 && r.IntN(some) == 0
	}
	return v
}

// equalBits compares what is changed.
func equalBits(t *testing.T, what string, want, got []float32, changed []bool) {
	t.Helper()
	for k, c := range changed {
		if c && math.Float32bits(want[k]) != math.Float32bits(got[k]) {
			t.Fatalf("%s: sample %d of %d is %v instead of %v", what, k, len(changed), got[k], want[k])
		}
	}
}

// TestRowsFast compares the functions that need AVX2 with the others, bit for bit.
func TestRowsFast(t *testing.T) {
	if !fast {
		t.Skip("this processor has no fast functions")
	}
	r := rand.New(rand.NewPCG(1, 2))
	sampled := 0
	for range 4000 {
		n := r.IntN(70)
		size := image.Pt(1+r.IntN(60), 1+r.IntN(20))
		origin := image.Pt(r.IntN(1000), r.IntN(1000))
		p := randomPatch(r, image.Rectangle{origin, origin.Add(size)})
		x, y := origin.X+r.IntN(40)-20, origin.Y+r.IntN(size.Y)
		dx, dy := randomRow(r, n), randomRow(r, n)
		changed := randomFlags(r, n)

		want, got := make([]float32, n), make([]float32, n)
		wantChanged, gotChanged := slices.Clone(changed), slices.Clone(changed)
		p.cubicSlow(want, wantChanged, x, y, dx, dy)
		p.cubicRow(got, gotChanged, x, y, dx, dy)
		if !slices.Equal(wantChanged, gotChanged) {
			t.Fatalf("cubic: changed is %v instead of %v", gotChanged, wantChanged)
		}
		equalBits(t, "cubic", want, got, wantChanged)
		sampled += p.fastCubic(got, gotChanged, x, y, dx, dy)

		q := randomPatch(r, p.Rectangle)
		want2, got2 := make([]float32, n), make([]float32, n)
		for shift := range 2 {
			half := (n + shift) >> shift
			shiftY := r.IntN(2)
			linearSlow(want, want2, p, q, changed[:half], x, y, dx, dy, shift, shiftY)
			linearRow(got, got2, p, q, changed[:half], x, y, dx, dy, shift, shiftY)
			equalBits(t, "linear", want, got, changed[:half])
			equalBits(t, "linear", want2, got2, changed[:half])
			sampled += fastLinear(got, got2, p, q, changed[:half], x, y, dx, dy, shift, shiftY)
		}
	}
	if sampled < 10_000 {
		t.Errorf("only %d samples were computed by fast functions", sampled)
	}
}

// TestFramesFast compares reading and writing rows of 8 and 10 bits with the functions that
// need no AVX2.
func TestFramesFast(t *testing.T) {
	if !fast {
		t.Skip("this processor has no fast functions")
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		format := frame.Format{Width: 1 + r.IntN(90), Height: 2, Depth: 8 + 2*r.IntN(2)}
		f := frame.New(format)
		for i := range f.Data {
			f.Data[i] = byte(r.Uint32())
		}
		x0 := r.IntN(format.Width)
		x1 := x0 + 1 + r.IntN(format.Width-x0)
		var p patch
		p.load(f, 0, image.Rect(x0, 1, x1, 2))
		size := format.SampleBytes()
		row := f.Planes[0][size*(format.Width+x0) : size*(format.Width+x1)]
		want := make([]float32, x1-x0)
		widenSlow(want, row, format.Depth)
		if !slices.Equal(want, p.v) {
			t.Fatalf("%d bits: the row is %v instead of %v", format.Depth, p.v, want)
		}

		v, changed := make([]float32, x1-x0), randomFlags(r, x1-x0)
		for i := range v {
			v[i] = float32(r.NormFloat64()*100 + 128)
			if r.IntN(4) == 0 {
				v[i] = [...]float32{-0.5, 0.5, 1.5, 254.5, 255, 255.5, 1e9, -1e9, 3e9, float32(math.NaN())}[r.IntN(10)]
			}
		}
		other := frame.New(format)
		copy(other.Data, f.Data)
		putSlow(row, v, changed, format.Depth)
		putRow(other, 0, x0, 1, v, changed)
		if !slices.Equal(f.Data, other.Data) {
			t.Fatalf("%d bits: the frame is %v instead of %v for %v", format.Depth, other.Data, f.Data, v)
		}
	}
}

// TestFieldFast compares what fills the field with the functions that need no AVX2.
func TestFieldFast(t *testing.T) {
	if !fast {
		t.Skip("this processor has no fast functions")
	}
	r := rand.New(rand.NewPCG(5, 6))
	all := func(n int) []bool { return slices.Repeat([]bool{true}, n) }
	m := newMask()
	faded := 0
	for range 4000 {
		n := r.IntN(40)
		want, wantY := randomRow(r, n), randomRow(r, n)
		for i := range want { // fade as with a jaw that closes
			if wantY[i] = float32(math.Abs(float64(wantY[i]))); r.IntN(5) == 0 {
				want[i], wantY[i] = 0, -wantY[i]
			}
		}
		got, gotY := slices.Clone(want), slices.Clone(wantY)
		// Both ends of the row are inside the template.
		x0, x1 := 1+r.Float64()*(maskW-3), 1+r.Float64()*(maskW-3)
		y0, y1 := 1+r.Float64()*(maskH-3), 1+r.Float64()*(maskH-3)
		steps := float64(max(n-1, 1))
		du, dv := int((x1-x0)/steps*one), int((y1-y0)/steps*one)
		scale := float32(0.2 + r.Float64())
		m.fadeSlow(want, wantY, int(x0*one), int(y0*one), du, dv, scale)
		k := m.fastFade(got, gotY, int(x0*one), int(y0*one), du, dv, scale)
		equalBits(t, "fade", want, got, all(k))
		equalBits(t, "fade", wantY, gotY, all(k))
		faded += k

		for shift := range 2 {
			dx, dy, changed := randomRow(r, n), randomRow(r, n), randomFlags(r, (n+shift)>>shift)
			marked := slices.Clone(changed)
			markMoves(marked, dx, dy, shift)
			for k := range changed {
				if changed[k] = changed[k] || moves(dx[k<<shift], dy[k<<shift]); changed[k] != marked[k] {
					t.Fatalf("sample %d of %d, which moves by %v and %v, is changed: %v", k, len(changed), dx[k<<shift], dy[k<<shift], marked[k])
				}
			}
		}

		want, wantY = randomRow(r, n), randomRow(r, n)
		got = slices.Clone(want)
		mean(got, wantY)
		for k := range want {
			want[k] = (want[k] + wantY[k]) * 0.5
		}
		equalBits(t, "mean", want, got, all(n))
	}
	if faded < 10_000 {
		t.Errorf("only %d samples were faded by fast functions", faded)
	}
}

// TestFillFast fills triangles with and without AVX2.
func TestFillFast(t *testing.T) {
	if !fast {
		t.Skip("this processor has no fast functions")
	}
	r := rand.New(rand.NewPCG(7, 8))
	filled := 0
	for range 3000 {
		var want field
		origin := image.Pt(r.IntN(500), r.IntN(500))
		want.reset(image.Rectangle{origin, origin.Add(image.Pt(1+r.IntN(80), 1+r.IntN(60)))})
		for i := range want.spans {
			left := origin.X + r.IntN(want.Dx()+1)
			want.spans[i] = span{left, left + r.IntN(want.Max.X-left+1)}
			if r.IntN(3) > 0 {
				want.spans[i] = span{origin.X, want.Max.X}
			}
		}
		got := want
		got.dx, got.dy = slices.Clone(want.dx), slices.Clone(want.dy)
		whole := r.IntN(3) == 0 // corners on pixels, so that edges are level or go through pixels
		corners := func() (p [3]vec) {
			for i := range p {
				p[i] = vec{float64(origin.X) + r.Float64()*100 - 10, float64(origin.Y) + r.Float64()*80 - 10}
				if whole {
					p[i] = vec{math.Round(p[i].x), math.Round(p[i].y)}
				}
			}
			return p
		}
		to, from := corners(), corners()
		got.triangle(to, from)
		if got.ramps.rows == 0 {
			continue // outside, or too thin
		}
		want.ramps = got.ramps
		want.fillSlow()
		changed := slices.Repeat([]bool{true}, len(want.dx))
		equalBits(t, "triangle", want.dx, got.dx, changed)
		equalBits(t, "triangle", want.dy, got.dy, changed)
		for _, d := range want.dx {
			if d != 0 {
				filled++
			}
		}
	}
	if filled < 10_000 {
		t.Errorf("only %d pixels were filled", filled)
	}
}
