package frame

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

func noisy(f Format, seed uint64) *Frame {
	rng := rand.New(rand.NewPCG(seed, 7))
	fr := New(f)
	for i := range 3 {
		if f.SampleBytes() == 1 {
			for k := range fr.Planes[i] {
				fr.Planes[i][k] = byte(rng.IntN(256))
			}
			continue
		}
		p := plane[uint16](fr, i)
		for k := range p {
			p[k] = uint16(rng.IntN(1024))
		}
	}
	return fr
}

func clone(f *Frame) *Frame {
	c := New(f.Format)
	copy(c.Data, f.Data)
	return c
}

func at(f *Frame, p, i int) int {
	if f.SampleBytes() == 1 {
		return int(f.Planes[p][i])
	}
	return int(plane[uint16](f, p)[i])
}

// half is an alpha with a soft round spot.
func spot(n int) []float32 {
	a := make([]float32, n*n)
	for y := range n {
		for x := range n {
			d := math.Hypot(float64(x)-float64(n)/2, float64(y)-float64(n)/2) / (float64(n) / 3)
			a[y*n+x] = float32(min(max(2-2*d, 0), 1))
		}
	}
	return a
}

var turned = Affine{0.9, 0.2, -30.3, -0.2, 0.9, -10.7}

// Nothing may change where alpha is 0: luma pixel by pixel, chroma where all
// covered luma pixels have alpha 0.
func TestBlendLeavesTheRest(t *testing.T) {
	src := smooth(64, 64)
	alpha := spot(64)
	for _, f := range formats() {
		fr := noisy(f, 3)
		old := clone(fr)
		fr.Blend(src, alpha, turned)
		sampled := func(x, y int) float64 {
			if x >= f.Width || y >= f.Height {
				return 0
			}
			u, v := turned.Apply(float64(x), float64(y))
			return bilinear(func(x, y int) float64 { return float64(alpha[y*64+x]) }, 64, 64, u, v, Constant, 0)
		}
		changed := 0
		for y := range f.Height {
			for x := range f.Width {
				i := y*f.Width + x
				if at(fr, 0, i) != at(old, 0, i) {
					changed++
					if sampled(x, y) < 1e-9 {
						t.Fatalf("%s: luma (%d,%d) changed", name(f), x, y)
					}
				}
			}
		}
		cw, ch := f.PlaneSize(1)
		for y := range ch {
			for x := range cw {
				i := y*cw + x
				if at(fr, 1, i) == at(old, 1, i) && at(fr, 2, i) == at(old, 2, i) {
					continue
				}
				var a float64
				for dy := range 1 << f.ShiftY {
					for dx := range 1 << f.ShiftX {
						a += sampled(x<<f.ShiftX+dx, y<<f.ShiftY+dy)
					}
				}
				if a < 1e-9 {
					t.Fatalf("%s: chroma (%d,%d) changed", name(f), x, y)
				}
			}
		}
		if changed < 500 {
			t.Errorf("%s: only %d luma samples changed", name(f), changed)
		}
	}
}

// With alpha 1 the picture is there, whatever was below.
func TestBlendOpaque(t *testing.T) {
	for _, f := range formats() {
		src := smooth(f.Width, f.Height)
		alpha := make([]float32, f.Width*f.Height)
		for i := range alpha {
			alpha[i] = 1
		}
		a, b := noisy(f, 1), New(f)
		a.Blend(src, alpha, Affine{A: 1, E: 1})
		b.Blend(src, alpha, Affine{A: 1, E: 1})
		for p := range 3 {
			w, h := f.PlaneSize(p)
			for i := range w * h {
				if d := at(a, p, i) - at(b, p, i); d > 1 || d < -1 {
					t.Fatalf("%s: plane %d sample %d: %d over noise, %d over black", name(f), p, i, at(a, p, i), at(b, p, i))
				}
			}
		}
	}
}

func TestBlendDegenerate(t *testing.T) {
	f := noisy(Format{Width: 33, Height: 31, ShiftX: 1, ShiftY: 1, Depth: 8}, 9)
	old := clone(f)
	src, alpha := smooth(16, 16), spot(16)
	for _, m := range []Affine{{}, {A: math.NaN(), E: 1}, {A: 1, E: 1, C: 1e9}, {A: 1, E: 1, C: math.Inf(1)}} {
		f.Blend(src, alpha, m)
	}
	f.Blend(src, make([]float32, 256), Affine{A: 1, E: 1})
	if !bytes.Equal(f.Data, old.Data) {
		t.Error("the frame changed")
	}
	defer func() {
		if recover() == nil {
			t.Error("sizes that do not match were accepted")
		}
	}()
	f.Blend(src, alpha[:10], Affine{A: 1, E: 1})
}
