package preview

import (
	"encoding/binary"
	"image"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

// colour is a Y'CbCr value on the 8-bit code scale, whatever the frame's depth.
type colour [3]float32

// patch is a region of one plane as numbers on the 8-bit code scale.
type patch struct {
	image.Rectangle
	v []float32
}

// resize returns a slice of n arbitrary values, in the memory of s if that is large enough.
func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

// load copies region r of plane i out of f.
func (p *patch) load(f *frame.Frame, i int, r image.Rectangle) {
	w, h := f.PlaneSize(i)
	p.Rectangle = r.Intersect(image.Rect(0, 0, w, h))
	p.v = resize(p.v, p.Dx()*p.Dy())
	at := 0
	scale := 1 / float32(int(1)<<(f.Depth-8))
	for y := p.Min.Y; y < p.Max.Y; y++ {
		if f.SampleBytes() == 1 {
			for _, s := range f.Planes[i][y*w+p.Min.X : y*w+p.Max.X] {
				p.v[at] = float32(s)
				at++
			}
			continue
		}
		row := f.Planes[i][2*(y*w+p.Min.X) : 2*(y*w+p.Max.X)]
		for x := 0; x < len(row); x += 2 {
			p.v[at] = float32(binary.LittleEndian.Uint16(row[x:])) * scale
			at++
		}
	}
}

// get reads one sample, repeating the edge.
func (p *patch) get(x, y int) float32 {
	x = min(max(x, p.Min.X), p.Max.X-1)
	y = min(max(y, p.Min.Y), p.Max.Y-1)
	return p.v[(y-p.Min.Y)*p.Dx()+x-p.Min.X]
}

// linear samples bilinearly.
func (p *patch) linear(x, y float32) float32 {
	x0, y0 := floor32(x), floor32(y)
	fx, fy := x-float32(x0), y-float32(y0)
	a := p.get(x0, y0)*(1-fx) + p.get(x0+1, y0)*fx
	b := p.get(x0, y0+1)*(1-fx) + p.get(x0+1, y0+1)*fx
	return a*(1-fy) + b*fy
}

// cubic samples with Catmull-Rom weights, which keep the skin's texture where
// a bilinear sample would blur it.
func (p *patch) cubic(x, y float32) float32 {
	x0, y0 := floor32(x), floor32(y)
	wx, wy := catmullRom(x-float32(x0)), catmullRom(y-float32(y0))
	var s float32
	if x0-1 >= p.Min.X && x0+2 < p.Max.X && y0-1 >= p.Min.Y && y0+2 < p.Max.Y {
		w := p.Dx()
		at := (y0-1-p.Min.Y)*w + x0 - 1 - p.Min.X
		for j := range 4 {
			r := p.v[at : at+4 : at+4]
			s += wy[j] * (wx[0]*r[0] + wx[1]*r[1] + wx[2]*r[2] + wx[3]*r[3])
			at += w
		}
		return s
	}
	for j := range 4 {
		for i := range 4 {
			s += wy[j] * wx[i] * p.get(x0-1+i, y0-1+j)
		}
	}
	return s
}

func floor32(x float32) int { return int(math.Floor(float64(x))) }

func catmullRom(t float32) [4]float32 {
	t2, t3 := t*t, t*t*t
	return [4]float32{
		-0.5*t3 + t2 - 0.5*t, 1.5*t3 - 2.5*t2 + 1, -1.5*t3 + 2*t2 + 0.5*t, 0.5*t3 - 0.5*t2,
	}
}

// put writes v, on the 8-bit code scale, to sample (x, y) of plane i.
func put(f *frame.Frame, i, x, y int, v float32) {
	w, _ := f.PlaneSize(i)
	if f.SampleBytes() == 1 {
		f.Planes[i][y*w+x] = byte(clampCode(v, 255))
		return
	}
	top := float32(int(1)<<f.Depth - 1)
	c := clampCode(v*float32(int(1)<<(f.Depth-8)), top)
	binary.LittleEndian.PutUint16(f.Planes[i][2*(y*w+x):], uint16(c))
}

func clampCode(v, top float32) float32 { return min(max(v+0.5, 0), top) }

// colourAt samples all planes at a luma position.
func colourAt(p *[3]patch, f *frame.Frame, at vec) colour {
	x, y := float32(at.x), float32(at.y)
	cx, cy := chromaPosition(f, x, y)
	return colour{p[0].linear(x, y), p[1].linear(cx, cy), p[2].linear(cx, cy)}
}

// chromaPosition maps luma to chroma coordinates: chroma sits on the left luma
// sample of its pair and between its two rows (the MPEG-2 siting).
func chromaPosition(f *frame.Frame, x, y float32) (float32, float32) {
	if f.ShiftX == 1 {
		x /= 2
	}
	if f.ShiftY == 1 {
		y = (y - 0.5) / 2
	}
	return x, y
}
