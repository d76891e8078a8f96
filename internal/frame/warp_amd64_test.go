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
		f := randomFrame(r, format)
		for range 60 {
			m := randomAffine(r)
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
