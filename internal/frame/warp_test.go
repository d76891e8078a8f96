package frame

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// smooth is a picture of slow waves in all three channels, so that chroma
// subsampling loses little.
func smooth(w, h int) *RGB {
	p := NewRGB(w, h)
	for y := range h {
		for x := range w {
			i := 3 * (y*w + x)
			fx, fy := float64(x), float64(y)
			p.Pix[i] = byte(128 + 80*math.Sin(fx/23)*math.Cos(fy/31))
			p.Pix[i+1] = byte(128 + 80*math.Cos(fx/29+1)*math.Sin(fy/19))
			p.Pix[i+2] = byte(128 + 80*math.Sin(fx/37+fy/41))
		}
	}
	return p
}

func formats() []Format {
	var all []Format
	for _, depth := range []int{8, 10} {
		for _, shift := range [][2]int{{1, 1}, {1, 0}, {0, 0}} {
			for _, m := range []Matrix{BT601, BT709, BT2020} {
				for _, full := range []bool{false, true} {
					all = append(all, Format{Width: 161, Height: 121, ShiftX: shift[0], ShiftY: shift[1], Depth: depth, Matrix: m, FullRange: full})
				}
			}
		}
	}
	return all
}

func name(f Format) string {
	return fmt.Sprintf("%s matrix %d full %v", f.PixFmt(), f.Matrix, f.FullRange)
}

// bilinear is the definition, in floating point, one channel.
func bilinear(at func(x, y int) float64, w, h int, x, y float64, border Border, fill float64) float64 {
	x0, y0 := math.Floor(x), math.Floor(y)
	var v float64
	for k := range 4 {
		ix, iy := int(x0)+k&1, int(y0)+k>>1
		wt := math.Abs(1-float64(k&1)-(x-x0)) * math.Abs(1-float64(k>>1)-(y-y0))
		if border == Constant && (ix < 0 || iy < 0 || ix >= w || iy >= h) {
			v += wt * fill
			continue
		}
		v += wt * at(clampInt(ix, 0, w-1), clampInt(iy, 0, h-1))
	}
	return v
}

func TestWarpRGBMatchesDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	src := NewRGB(37, 29)
	for i := range src.Pix {
		src.Pix[i] = byte(rng.IntN(256))
	}
	for n := range 40 {
		m := Affine{rng.Float64()*2 - 1, rng.Float64()*2 - 1, rng.Float64() * 37, rng.Float64()*2 - 1, rng.Float64()*2 - 1, rng.Float64() * 29}
		border := Border(n % 2)
		dst := NewRGB(40, 40)
		src.Warp(dst, m, border, 77)
		for v := range 40 {
			for u := range 40 {
				x, y := m.Apply(float64(u), float64(v))
				for c := range 3 {
					want := bilinear(func(x, y int) float64 { return float64(src.Pix[3*(y*37+x)+c]) }, 37, 29, x, y, border, 77)
					if got := float64(dst.Pix[3*(v*40+u)+c]); math.Abs(got-want) > 0.65+0.5*float64(border) {
						t.Fatalf("run %d (%d,%d) channel %d: %v, want %.3f", n, u, v, c, got, want)
					}
				}
			}
		}
	}
}

// fill fills a frame from a picture of its size.
func fill(f *Frame, p *RGB) {
	f.Blend(p, slices.Repeat([]float32{1}, p.W*p.H), Affine{A: 1, E: 1})
}

// region converts the first w x h pixels.
func region(f *Frame, w, h int) *RGB {
	p := NewRGB(w, h)
	f.Warp(p, Affine{A: 1, E: 1}, Replicate, 0)
	return p
}

// A frame made from a smooth picture gives it back, in every format.
func TestRoundTrip(t *testing.T) {
	for _, f := range formats() {
		src := smooth(f.Width, f.Height)
		fr := New(f)
		fill(fr, src)
		got := region(fr, f.Width, f.Height)
		worst, sum := 0, 0
		for i := range got.Pix {
			d := int(got.Pix[i]) - int(src.Pix[i])
			worst = max(worst, d, -d)
			sum += d
		}
		limit := 3
		if f.ShiftX > 0 {
			limit = 7 // wave tops are a little lower, picture edges repeat
		}
		if worst > limit {
			t.Errorf("%s: differs by %d", name(f), worst)
		}
		if mean := float64(sum) / float64(len(got.Pix)); math.Abs(mean) > 0.1 {
			t.Errorf("%s: mean difference %.3f", name(f), mean)
		}
	}
}

// Known colours: BT.709 limited white, black, and a pure red.
func TestKnownColours(t *testing.T) {
	for _, c := range []struct {
		f       Format
		y, u, v byte
		rgb     [3]byte
	}{
		{Format{Matrix: BT709}, 235, 128, 128, [3]byte{255, 255, 255}},
		{Format{Matrix: BT709}, 16, 128, 128, [3]byte{0, 0, 0}},
		{Format{Matrix: BT709}, 63, 102, 240, [3]byte{255, 1, 0}},
		{Format{Matrix: BT601}, 81, 90, 240, [3]byte{254, 0, 0}},
		{Format{Matrix: BT601, FullRange: true}, 76, 85, 255, [3]byte{254, 0, 0}},
	} {
		f := c.f
		f.Width, f.Height, f.Depth = 4, 4, 8
		fr := New(f)
		for i, v := range []byte{c.y, c.u, c.v} {
			for k := range fr.Planes[i] {
				fr.Planes[i][k] = v
			}
		}
		if got := region(fr, 1, 1).Pix; [3]byte(got) != c.rgb {
			t.Errorf("%v: %v, want %v", c, got, c.rgb)
		}
	}
}

// Chroma lies in the column of even luma samples: a chroma ramp must come out
// as a ramp of the same position.
func TestChromaSiting(t *testing.T) {
	f := New(Format{Width: 64, Height: 64, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: BT601, FullRange: true})
	for i := range f.Planes[0] {
		f.Planes[0][i] = 128
	}
	for y := range 32 {
		for x := range 32 {
			f.Planes[1][y*32+x] = byte(64 + 4*x) // 64 + 2 per luma column
			f.Planes[2][y*32+x] = 128
		}
	}
	p := region(f, 64, 64)
	for x := 2; x < 60; x++ {
		want := 128 + 1.772*(64+2*float64(x)-128)
		if want < 1 || want > 254 {
			continue
		}
		if got := float64(p.Pix[3*(20*64+x)+2]); math.Abs(got-want) > 0.6 {
			t.Errorf("column %d: blue %v, want %.2f", x, got, want)
		}
	}
}

func TestWarpFrameBorders(t *testing.T) {
	f := New(Format{Width: 16, Height: 16, ShiftX: 1, ShiftY: 1, Depth: 8, Matrix: BT709})
	fill(f, smooth(16, 16))
	dst := NewRGB(40, 40)
	m := Affine{A: 1, C: -12.5, E: 1, F: -12.5}
	f.Warp(dst, m, Constant, 9)
	if dst.Pix[0] != 9 || dst.Pix[len(dst.Pix)-1] != 9 {
		t.Error("outside is not the fill value")
	}
	whole := region(f, 16, 16)
	want := NewRGB(40, 40)
	whole.Warp(want, m, Constant, 9)
	for i := range want.Pix {
		if d := int(dst.Pix[i]) - int(want.Pix[i]); d > 1 || d < -1 {
			t.Fatalf("value %d: %d, by way of RGB %d", i, dst.Pix[i], want.Pix[i])
		}
	}
	for _, bad := range []Affine{{A: math.NaN()}, {A: 1e300, C: math.Inf(1)}, {C: -1e18}} {
		f.Warp(dst, bad, Replicate, 0)
		f.Warp(dst, bad, Constant, 0)
		whole.Warp(dst, bad, Replicate, 0)
	}
}

// randomFrame has random samples, often the least and the largest.
func randomFrame(r *rand.Rand, format Format) *Frame {
	f := New(format)
	for i := range 3 {
		for k := range f.Planes[i] {
			if format.Depth > 8 && k%2 == 1 {
				f.Planes[i][k] = byte(r.IntN(4))
			} else if f.Planes[i][k] = byte(r.Uint32()); r.IntN(3) == 0 {
				f.Planes[i][k] = byte(255 * r.IntN(2))
			}
		}
	}
	return f
}

func randomAffine(r *rand.Rand) Affine {
	if r.IntN(3) == 0 {
		return Affine{1, 0, float64(r.IntN(200) - 40), 0, 1, float64(r.IntN(160) - 40)}
	}
	return Affine{r.NormFloat64() * 0.7, r.NormFloat64() * 0.7, r.Float64() * 160, r.NormFloat64() * 0.7, r.NormFloat64() * 0.7, r.Float64() * 120}
}

// TestWarpInside compares pictures with those that are made as if each pixel were at an edge.
func TestWarpInside(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, format := range formats() {
		f := randomFrame(r, format)
		for range 40 {
			m, border := randomAffine(r), Border(r.IntN(2))
			got := NewRGB(1+r.IntN(60), 1+r.IntN(40))
			want := NewRGB(got.W, got.H)
			f.Warp(got, m, border, 99)
			for v := range want.H {
				px, py, row := fixed(m.B*float64(v)+m.C), fixed(m.E*float64(v)+m.F), want.Pix[3*v*want.W:3*(v+1)*want.W]
				if format.Depth == 8 {
					newWarp[uint8](f, m, border, 99).edges(row, px, py)
				} else {
					newWarp[uint16](f, m, border, 99).edges(row, px, py)
				}
			}
			if !slices.Equal(want.Pix, got.Pix) {
				t.Fatalf("%s, %v, %dx%d: another picture than pixel by pixel", name(format), m, want.W, want.H)
			}
		}
	}
}

func benchFrame(depth int) *Frame {
	f := New(Format{Width: 1280, Height: 720, ShiftX: 1, ShiftY: 1, Depth: depth, Matrix: BT709})
	fill(f, smooth(1280, 720))
	return f
}

func BenchmarkWarp(b *testing.B) {
	m := Affine{1.4, 0.1, 300.3, -0.1, 1.4, 200.7}
	for _, depth := range []int{8, 10} {
		f := benchFrame(depth)
		for _, n := range []int{128, 192, 256} {
			b.Run(fmt.Sprintf("yuv420p%d/%d", depth, n), func(b *testing.B) {
				dst := NewRGB(n, n)
				for b.Loop() {
					f.Warp(dst, m, Replicate, 0)
				}
			})
		}
	}
	p := smooth(1280, 720)
	b.Run("rgb/192", func(b *testing.B) {
		dst := NewRGB(192, 192)
		for b.Loop() {
			p.Warp(dst, m, Replicate, 0)
		}
	})
}

func BenchmarkBlend(b *testing.B) {
	src := smooth(256, 256)
	gen := smooth(256, 256)
	for i := range gen.Pix {
		gen.Pix[i] ^= 1
	}
	alpha := make([]float32, 256*256)
	for y := 128; y < 250; y++ {
		for x := 10; x < 246; x++ {
			alpha[y*256+x] = 1
		}
	}
	m := Affine{0.7, 0.05, -200, -0.05, 0.7, -150}
	for _, depth := range []int{8, 10} {
		f := benchFrame(depth)
		b.Run(fmt.Sprintf("blend/yuv420p%d", depth), func(b *testing.B) {
			for b.Loop() {
				f.Blend(src, alpha, m)
			}
		})
	}
}
