package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// axis holds the weights by which an axis is resized: output i is the sum of
// weight[i][k] times input first[i]+k.
type axis[T int32 | float32] struct {
	in     int
	first  []int
	weight [][]T
}

// newLanczos returns the weights of OpenCV's INTER_LANCZOS4 for bytes: 8 taps of 11-bit
// integers, whose sum is not always 2048 (docs/spec/latentsync.md, section 3.5). It
// follows OpenCV's float32 steps, because they decide how near-ties are rounded.
func newLanczos(in, out int) axis[int32] {
	a := axis[int32]{in, make([]int, out), make([][]int32, out)}
	scale := float64(in) / float64(out)
	for i := range out {
		f := float32((float64(i)+0.5)*scale - 0.5)
		base := int(math.Floor(float64(f)))
		frac := f - float32(base)
		var c [8]float32
		if frac < 1.1920929e-7 {
			c[3] = 1
		} else {
			var sum float32
			// The weights are sinc(t)·sinc(t/4), but for a common factor. OpenCV
			// derives the eight sines from two, and that rounding decides ties.
			sin, cos := math.Sincos(-(float64(frac) + 3) * math.Pi / 4)
			for k, turn := range lanczosTurns {
				y := -(float64(frac) + 3 - float64(k)) * math.Pi / 4
				c[k] = float32((float64(turn[0]*sin) + float64(turn[1]*cos)) / (y * y))
				sum += c[k]
			}
			r := 1 / sum
			for k := range c {
				c[k] *= r
			}
		}
		lo, hi := max(base-3, 0), min(base+4, in-1)
		a.first[i], a.weight[i] = lo, make([]int32, hi-lo+1)
		for k, v := range c { // taps beyond the ends count for the first or last input
			a.weight[i][min(max(base-3+k, lo), hi)-lo] += int32(math.RoundToEven(float64(v * 2048)))
		}
	}
	return a
}

// lanczosTurns[k]·(sin y, cos y) is, but for its sign, the sine of the angle y of
// tap 0 turned to that of tap k.
var lanczosTurns = [8][2]float64{
	{1, 0}, {-math.Sqrt2 / 2, -math.Sqrt2 / 2}, {0, 1}, {math.Sqrt2 / 2, -math.Sqrt2 / 2},
	{-1, 0}, {math.Sqrt2 / 2, math.Sqrt2 / 2}, {0, -1}, {-math.Sqrt2 / 2, math.Sqrt2 / 2},
}

// Lanczos resizes an image to w x h pixels with the bytes of OpenCV's INTER_LANCZOS4.
func Lanczos(src *frame.RGB, w, h int) *frame.RGB {
	return lanczos(src, newLanczos(src.W, w), newLanczos(src.H, h))
}

func lanczos(src *frame.RGB, cols, rows axis[int32]) *frame.RGB {
	n := src.W * src.H
	in := make([]int32, 3*n)
	for i, v := range src.Pix {
		in[i%3*n+i/3] = int32(v)
	}
	out := resize(in, 3, cols, rows)
	dst := frame.NewRGB(len(cols.first), len(rows.first))
	n = dst.W * dst.H
	for i := range dst.Pix {
		dst.Pix[i] = lanczosByte(out[i%3*n+i/3])
	}
	return dst
}

// lanczosByte rounds a value that was resized with the integer weights of both axes.
func lanczosByte(v int32) byte { return byte(min(max((v+1<<21)>>22, 0), 255)) }

// Bicubic resizes planes, [channels, h, w], to [channels, toH, toW] with antialiasing. It does
// not clamp the values. It computes the rows from a row on, and sets those above to 0.
func Bicubic(src []float32, channels, w, h, toW, toH, from int) []float32 {
	rows := newBicubic(h, toH)
	clear(rows.weight[:from])
	return resize(src, channels, newBicubic(w, toW), rows)
}

// newBicubic returns the weights of torchvision's antialiased bicubic
// (docs/spec/latentsync.md, section 7.2).
func newBicubic(in, out int) axis[float32] {
	a := axis[float32]{in, make([]int, out), make([][]float32, out)}
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support := 2 * stretch
	for i := range out {
		centre := scale * (float64(i) + 0.5)
		lo := max(int(centre-support+0.5), 0)
		hi := min(int(centre+support+0.5), in)
		w := make([]float32, hi-lo)
		var sum float64
		for j := range w {
			v := keys((float64(lo+j) - centre + 0.5) / stretch)
			w[j] = float32(v)
			sum += v
		}
		for j := range w {
			w[j] = float32(float64(w[j]) / sum)
		}
		a.first[i], a.weight[i] = lo, w
	}
	return a
}

// keys is the cubic convolution kernel of Keys with a = -0.5.
func keys(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

// resize resizes an image, [channels, rows.in, cols.in], columns first. Rows without weights
// become 0.
func resize[T int32 | float32](src []T, channels int, cols, rows axis[T]) []T {
	n, height := len(cols.first), len(rows.first)
	wide := make([]T, channels*rows.in*n)
	top := rows.in // first row of the image that is read
	for y, weight := range rows.weight {
		if len(weight) > 0 {
			top = min(top, rows.first[y])
		}
	}
	for y := range channels * rows.in {
		if y%rows.in < top {
			continue
		}
		line := src[y*cols.in : (y+1)*cols.in]
		for x, weight := range cols.weight {
			var v T
			for k, p := range line[cols.first[x] : cols.first[x]+len(weight)] {
				v += weight[k] * p
			}
			wide[y*n+x] = v
		}
	}
	dst := make([]T, channels*height*n)
	for c := range channels {
		for y, weight := range rows.weight {
			out := dst[(c*height+y)*n : (c*height+y+1)*n]
			for k, w := range weight {
				line := wide[(c*rows.in+rows.first[y]+k)*n:]
				for x := range out {
					out[x] += w * line[x]
				}
			}
		}
	}
	return dst
}
