package frame

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestKeep mixes two random frames: mask 0 is the source bit for bit, 255 the frame itself,
// and between them lies the weighted mean.
func TestKeep(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, format := range []Format{
		{Width: 20, Height: 14, ShiftX: 1, ShiftY: 1, Depth: 8},
		{Width: 20, Height: 14, ShiftX: 1, Depth: 10},
		{Width: 7, Height: 5, Depth: 8},
		{Width: 7, Height: 5, ShiftX: 1, ShiftY: 1, Depth: 10},
	} {
		fill := func() *Frame {
			f := New(format)
			for i := range f.Data {
				if f.Data[i] = byte(random.Uint32()); format.Depth > 8 && i%2 == 1 {
					f.Data[i] &= 3
				}
			}
			return f
		}
		before, source := fill(), fill()
		mask := make([]byte, format.Width*format.Height)
		for i := range mask {
			mask[i] = []byte{0, 255, 0, 255, 100}[random.IntN(5)]
		}
		after := New(format)
		copy(after.Data, before.Data)
		after.Keep(source, mask)
		for k := range 3 {
			w, h := format.PlaneSize(k)
			sx, sy := format.ShiftX, format.ShiftY
			if k == 0 {
				sx, sy = 0, 0
			}
			at := func(f *Frame, i int) float64 {
				if format.Depth == 8 {
					return float64(plane[uint8](f, k)[i])
				}
				return float64(plane[uint16](f, k)[i])
			}
			for i := range w * h {
				least := 255.
				for y := i / w << sy; y < min((i/w+1)<<sy, format.Height); y++ {
					for x := i % w << sx; x < min((i%w+1)<<sx, format.Width); x++ {
						least = min(least, float64(mask[y*format.Width+x]))
					}
				}
				want := (at(before, i)*least + at(source, i)*(255-least)) / 255
				if got := at(after, i); got < want-0.5 || got > want+0.5 {
					t.Fatalf("%s, plane %d, sample %d: %g, want %g of %g and %g", format.PixFmt(), k, i, got, want, at(source, i), at(before, i))
				}
			}
		}
		copy(after.Data, before.Data)
		after.Keep(source, make([]byte, len(mask)))
		if !bytes.Equal(after.Data, source.Data) {
			t.Errorf("%s: a black mask does not restore the source", format.PixFmt())
		}
		copy(after.Data, before.Data)
		after.Keep(source, bytes.Repeat([]byte{255}, len(mask)))
		if !bytes.Equal(after.Data, before.Data) {
			t.Errorf("%s: a white mask changes the frame", format.PixFmt())
		}
	}
}
