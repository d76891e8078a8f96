package tensor

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// allHalves returns every 16-bit pattern, little-endian.
func allHalves() []byte {
	b := make([]byte, 2<<16)
	for i := range 1 << 16 {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(i))
	}
	return b
}

// half is the value of a float16 by the definition.
func half(h uint16) float64 {
	sign, exp, man := 1.0, int(h>>10&31), float64(h&0x3ff)
	if h&0x8000 != 0 {
		sign = -1
	}
	switch exp {
	case 0:
		return sign * math.Ldexp(man, -24)
	case 31:
		if man == 0 {
			return math.Inf(int(sign))
		}
		return math.NaN()
	}
	return sign * math.Ldexp(1024+man, exp-25)
}

func TestF16AllValues(t *testing.T) {
	src := allHalves()
	f := make([]float32, 1<<16)
	F16ToF32(f, src)
	for i, v := range f {
		want := half(uint16(i))
		same := float64(v) == want && math.Signbit(float64(v)) == math.Signbit(want)
		if !same && !(math.IsNaN(want) && v != v) {
			t.Fatalf("%#04x is %v, want %v", i, v, want)
		}
	}
	back := make([]byte, len(src))
	if n := F32ToF16(back, f); n != 0 {
		t.Errorf("%d overflows among values that fit", n)
	}
	if !slices.Equal(src, back) {
		t.Error("float16 -> float32 -> float16 changes values")
	}
}

// TestF32ToF16Rounds looks at the middle between every two neighbours, and
// just beside it.
func TestF32ToF16Rounds(t *testing.T) {
	to := func(v float32) uint16 {
		var b [2]byte
		F32ToF16(b[:], []float32{v})
		return binary.LittleEndian.Uint16(b[:])
	}
	for h := uint16(0); h < 0x7bff; h++ {
		mid := float32((half(h) + half(h+1)) / 2) // exact: one bit more
		even := h + h&1
		for _, sign := range []uint16{0, 0x8000} {
			s := float32(1)
			if sign != 0 {
				s = -1
			}
			if got := to(s * mid); got != even|sign {
				t.Fatalf("middle of %#04x and %#04x: %#04x", h, h+1, got)
			}
			if got := to(s * math.Nextafter32(mid, 0)); got != h|sign {
				t.Fatalf("below the middle of %#04x: %#04x", h, got)
			}
			if got := to(s * math.Nextafter32(mid, 1e9)); got != h+1|sign {
				t.Fatalf("above the middle of %#04x: %#04x", h, got)
			}
		}
	}
	inf := float32(math.Inf(1))
	src := []float32{65504, 65519.996, 65520, -65520, math.MaxFloat32, inf, -inf, 1e-30, -1e-40, math.Float32frombits(0x7f800001)}
	want := []uint16{0x7bff, 0x7bff, 0x7c00, 0xfc00, 0x7c00, 0x7c00, 0xfc00, 0, 0x8000, 0x7e00}
	dst := make([]byte, 2*len(src))
	if n := F32ToF16(dst, src); n != 3 {
		t.Errorf("%d overflows, want 3", n)
	}
	for i := range src {
		if got := binary.LittleEndian.Uint16(dst[2*i:]); got != want[i] {
			t.Errorf("%v: %#04x, want %#04x", src[i], got, want[i])
		}
	}
}

func TestBF16(t *testing.T) {
	src := allHalves()
	f := make([]float32, 1<<16)
	BF16ToF32(f, src)
	for i, v := range f {
		if math.Float32bits(v) != uint32(i)<<16 {
			t.Fatalf("%#04x is %x", i, math.Float32bits(v))
		}
	}
	back := make([]byte, len(src))
	F32ToBF16(back, f)
	if !slices.Equal(src, back) {
		t.Error("bfloat16 -> float32 -> bfloat16 changes values")
	}
	for _, c := range [][2]uint32{
		{0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0x3f817fff, 0x3f81},
		{0xbf818000, 0xbf82}, {0x7f7fffff, 0x7f80}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}, {0x00008000, 0}, {0x00018000, 2},
	} {
		var b [2]byte
		F32ToBF16(b[:], []float32{math.Float32frombits(c[0])})
		if got := binary.LittleEndian.Uint16(b[:]); uint32(got) != c[1] {
			t.Errorf("%08x: %04x, want %04x", c[0], got, c[1])
		}
	}
}

func TestToF32(t *testing.T) {
	f := FromF32([]float32{1, 2}, 2)
	if f.ToF32() != f {
		t.Error("F32 was copied")
	}
	for _, c := range []struct {
		t    *Tensor
		want []float32
	}{
		{&Tensor{F16, []int{2, 1}, []byte{0, 0x3c, 0, 0xc0}}, []float32{1, -2}},
		{&Tensor{BF16, []int{2}, []byte{0x80, 0x3f, 0, 0xc0}}, []float32{1, -2}},
		{&Tensor{I64, []int{1}, []byte{0xfe, 255, 255, 255, 255, 255, 255, 255}}, []float32{-2}},
		{&Tensor{U8, []int{3}, []byte{0, 1, 255}}, []float32{0, 1, 255}},
		{&Tensor{I32, []int{1}, []byte{0xfe, 255, 255, 255}}, []float32{-2}},
		{&Tensor{F16, []int{0, 4}, nil}, nil},
	} {
		got := c.t.ToF32()
		if got.DType != F32 || !slices.Equal(got.Shape, c.t.Shape) || !slices.Equal(got.F32(), c.want) {
			t.Errorf("%v %v gave %v %v", c.t.DType, c.t.Data, got.Shape, got.F32())
		}
	}
}

func benchmarkValues(b *testing.B) ([]float32, []byte) {
	f := make([]float32, 1<<16)
	for i := range f {
		f[i] = float32(math.Sin(float64(i))) * 0.05 // like weights: a few are subnormal
	}
	h := make([]byte, 2*len(f))
	b.SetBytes(int64(len(f))) // so that MB/s reads as million values per second
	return f, h
}

func BenchmarkF16ToF32(b *testing.B) {
	f, h := benchmarkValues(b)
	F32ToF16(h, f)
	for b.Loop() {
		F16ToF32(f, h)
	}
}

func BenchmarkF32ToF16(b *testing.B) {
	f, h := benchmarkValues(b)
	for b.Loop() {
		F32ToF16(h, f)
	}
}

func BenchmarkBF16ToF32(b *testing.B) {
	f, h := benchmarkValues(b)
	for b.Loop() {
		BF16ToF32(f, h)
	}
}

func BenchmarkF32ToBF16(b *testing.B) {
	f, h := benchmarkValues(b)
	for b.Loop() {
		F32ToBF16(h, f)
	}
}
