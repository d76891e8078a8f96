package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// lanczos has the weights of OpenCV's INTER_LANCZOS4 for bytes along one axis:
// 8 taps of 11-bit integers for each output position (3.5).
type lanczos struct {
	in, out int
	tap     []int32 // 8 per output, clamped input positions
	weight  []int32 // 8 per output; need not sum to 2048
}

// newLanczos follows OpenCV's float32 steps, which decide near-ties (golden
// README, point 1).
func newLanczos(in, out int) *lanczos {
	l := &lanczos{in: in, out: out, tap: make([]int32, 8*out), weight: make([]int32, 8*out)}
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
			// sinc(t)·sinc(t/4) but for a factor, by OpenCV's way around eight
			// sines, whose rounding decides ties.
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
		for k := range c {
			l.tap[8*i+k] = int32(min(max(base-3+k, 0), in-1))
			l.weight[8*i+k] = int32(math.RoundToEven(float64(c[k] * 2048)))
		}
	}
	return l
}

// lanczosTurns[k]·(sin y, cos y) is, but for its sign, the sine of the angle y of
// tap 0 turned to that of tap k.
var lanczosTurns = [8][2]float64{
	{1, 0}, {-math.Sqrt2 / 2, -math.Sqrt2 / 2}, {0, 1}, {math.Sqrt2 / 2, -math.Sqrt2 / 2},
	{-1, 0}, {math.Sqrt2 / 2, math.Sqrt2 / 2}, {0, -1}, {-math.Sqrt2 / 2, math.Sqrt2 / 2},
}

// resizeLanczos stretches src by the two axes' weights.
func resizeLanczos(src *frame.RGB, cols, rows *lanczos) *frame.RGB {
	wide := make([]int32, 3*cols.out*src.H)
	for y := range src.H {
		line := src.Pix[3*y*src.W : 3*(y+1)*src.W]
		out := wide[3*y*cols.out : 3*(y+1)*cols.out]
		for x := range cols.out {
			var r, g, b int32
			tap, weight := cols.tap[8*x:8*x+8], cols.weight[8*x:8*x+8]
			for k, w := range weight {
				p := line[3*tap[k] : 3*tap[k]+3]
				r += w * int32(p[0])
				g += w * int32(p[1])
				b += w * int32(p[2])
			}
			out[3*x], out[3*x+1], out[3*x+2] = r, g, b
		}
	}
	dst := frame.NewRGB(cols.out, rows.out)
	n := 3 * cols.out
	for y := range rows.out {
		var line [8][]int32
		tap, weight := rows.tap[8*y:8*y+8], rows.weight[8*y:8*y+8]
		for k := range line {
			line[k] = wide[n*int(tap[k]) : n*int(tap[k])+n]
		}
		out := dst.Pix[n*y : n*y+n]
		for i := range out {
			var v int32
			for k, w := range weight {
				v += w * line[k][i]
			}
			out[i] = byte(min(max((v+1<<21)>>22, 0), 255))
		}
	}
	return dst
}

// bicubic has the weights of torchvision's antialiased bicubic along one axis
// (7.2).
type bicubic struct {
	in, out int
	first   []int
	weight  [][]float32
}

func newBicubic(in, out int) *bicubic {
	b := &bicubic{in: in, out: out, first: make([]int, out), weight: make([][]float32, out)}
	scale := float64(in) / float64(out)
	stretch := math.Max(scale, 1)
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
		b.first[i], b.weight[i] = lo, w
	}
	return b
}

// keys is the cubic convolution kernel with a = -0.5.
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

// Resize brings a face from the model, [3,R,R] planar, to the crop,
// [3,CropH,CropW]: antialiased bicubic, not clamped (7.2).
func (a *Aligner) Resize(face []float32) []float32 {
	return resizeBicubic(face, 3, a.bicubic[0], a.bicubic[1])
}

// resizeBicubic resizes [channels, rows.in, cols.in], columns first.
func resizeBicubic(src []float32, channels int, cols, rows *bicubic) []float32 {
	wide := make([]float32, channels*rows.in*cols.out)
	for y := range channels * rows.in {
		line := src[y*cols.in : (y+1)*cols.in]
		for x, weight := range cols.weight {
			var v float32
			for k, p := range line[cols.first[x] : cols.first[x]+len(weight)] {
				v += weight[k] * p
			}
			wide[y*cols.out+x] = v
		}
	}
	n := cols.out
	dst := make([]float32, channels*rows.out*n)
	for c := range channels {
		for y, weight := range rows.weight {
			out := dst[(c*rows.out+y)*n : (c*rows.out+y+1)*n]
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
