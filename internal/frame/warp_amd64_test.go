package frame

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWarpFast compares the functions that need AVX2 with the Go code, bit for bit.
func TestWarpFast(t *testing.T) {
	if !fast {
		t.Skip("this processor has no fast functions")
	}
	t.Cleanup(func() { fast = true })
	r := rand.New(rand.NewPCG(5, 6))
	for _, format := range formats() {
		f := New(format)
		top := uint32(1) << format.Depth
		for i := range 3 {
			if format.Depth == 8 {
				for k := range plane[uint8](f, i) {
					plane[uint8](f, i)[k] = uint8(extreme(r, top))
				}
				continue
			}
			for k := range plane[uint16](f, i) {
				plane[uint16](f, i)[k] = uint16(extreme(r, top))
			}
		}
		for range 60 {
			m := Affine{r.NormFloat64() * 0.7, r.NormFloat64() * 0.7, r.Float64() * 160, r.NormFloat64() * 0.7, r.NormFloat64() * 0.7, r.Float64() * 120}
			if r.IntN(3) == 0 {
				m = Affine{1, 0, float64(r.IntN(100)), 0, 1, float64(r.IntN(80))}
			}
			want := NewRGB(1+r.IntN(60), 1+r.IntN(40))
			got := NewRGB(want.W, want.H)
			fast = false
			f.Warp(want, m, Replicate, 0)
			fast = true
			f.Warp(got, m, Replicate, 0)
			if !slices.Equal(want.Pix, got.Pix) {
				t.Fatalf("%s, %v, %dx%d: another picture than without AVX2", name(format), m, want.W, want.H)
			}
		}
	}
}

// extreme returns a value below top, often the least or the largest.
func extreme(r *rand.Rand, top uint32) uint32 {
	switch r.IntN(6) {
	case 0:
		return 0
	case 1:
		return top - 1
	}
	return r.Uint32N(top)
}
