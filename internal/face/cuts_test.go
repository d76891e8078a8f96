package face

import (
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
)

// world returns 320 x 180 pixels of an endless landscape. kind selects the landscape, (x, y)
// is the place of the camera.
func world(kind int, x, y, zoom float64) *frame.RGB {
	p := frame.NewRGB(128, 72)
	k := float64(kind)
	for v := range p.H {
		for u := range p.W {
			fx, fy := x+2.5*zoom*float64(u), y+2.5*zoom*float64(v)
			a := math.Sin(fx/(31+7*k)+k) * math.Cos(fy/(23+5*k)-2*k)
			b := math.Sin((fx+fy)/(57-3*k) + 3*k)
			c := math.Cos((fx-2*fy)/(83+11*k) + k*k)
			i := 3 * (v*p.W + u)
			p.Pix[i] = byte(128 + 55*a + 35*b + 30*c)
			p.Pix[i+1] = byte(128 + 50*a + 30*b*c + 40*c)
			p.Pix[i+2] = byte(128 + 45*a - 30*b + 40*c)
		}
	}
	return p
}

// gainOffset changes brightness, as exposure, flashes and fades do.
func gainOffset(p *frame.RGB, gain, offset float64) *frame.RGB {
	q := frame.NewRGB(p.W, p.H)
	for i, v := range p.Pix {
		q.Pix[i] = byte(min(max(gain*float64(v)+offset, 0), 255))
	}
	return q
}

func dissolve(a, b *frame.RGB, part float64) *frame.RGB {
	q := frame.NewRGB(a.W, a.H)
	for i := range q.Pix {
		q.Pix[i] = byte(float64(a.Pix[i])*(1-part) + float64(b.Pix[i])*part)
	}
	return q
}

func TestCuts(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
		at   func(i int) *frame.RGB
		want []int
	}{
		{"still", 20, func(i int) *frame.RGB { return world(0, 0, 0, 1) }, nil},
		{"cut", 20, func(i int) *frame.RGB { return world(i/10, 0, 0, 1) }, []int{10}},
		{"quick cuts", 20, func(i int) *frame.RGB { return world(i/4%4, 50, 0, 1) }, []int{4, 8, 12, 16}},
		{"pan", 30, func(i int) *frame.RGB { return world(0, 8*float64(i), 0, 1) }, nil},
		{"fast pan", 30, func(i int) *frame.RGB { return world(1, 25*float64(i), 5*float64(i), 1) }, nil},
		{"cut in a pan", 30, func(i int) *frame.RGB { return world(i/15, 12*float64(i), 0, 1) }, []int{15}},
		{"zoom", 30, func(i int) *frame.RGB { return world(2, 0, 0, 1+0.03*float64(i)) }, nil},
		{"flash", 20, func(i int) *frame.RGB {
			if i == 10 {
				return gainOffset(world(0, 0, 0, 1), 0.5, 120)
			}
			return world(0, 0, 0, 1)
		}, nil},
		{"white flash", 20, func(i int) *frame.RGB {
			if i == 10 || i == 11 {
				return gainOffset(world(0, 0, 0, 1), 0, 255)
			}
			return world(0, 0, 0, 1)
		}, nil},
		{"fade to black and back", 40, func(i int) *frame.RGB {
			return gainOffset(world(0, 0, 0, 1), math.Abs(float64(i)-20)/20, 0)
		}, nil},
		{"fade through black to another", 41, func(i int) *frame.RGB {
			return gainOffset(world(i/21, 0, 0, 1), math.Abs(float64(i)-20)/20, 0)
		}, []int{21}},
		{"exposure step", 20, func(i int) *frame.RGB { return gainOffset(world(0, 0, 0, 1), 1+0.4*float64(i/10), 0) }, nil},
	} {
		depths := []int{8, 10}
		found := make([]cutFinder, len(depths))
		got := make([][]int, len(depths))
		for i := range c.n {
			p := c.at(i)
			for k, depth := range depths {
				fr := frame.New(frame.Format{Width: p.W, Height: p.H, ShiftX: 1, ShiftY: 1, Depth: depth, Matrix: frame.BT709})
				frametest.Fill(fr, p)
				if found[k].next(fr) {
					got[k] = append(got[k], i)
				}
			}
		}
		for k, depth := range depths {
			ok := len(got[k]) == len(c.want)
			for j := range min(len(got[k]), len(c.want)) {
				// The first frames of a fade-in have no structure yet.
				ok = ok && got[k][j] >= c.want[j] && got[k][j] <= c.want[j]+2
			}
			if !ok {
				t.Errorf("%s, %d bits: cuts at %v, want %v", c.name, depth, got[k], c.want)
			}
		}
	}
	// A dissolve may contain one cut, anywhere.
	var f cutFinder
	n := 0
	for i := range 40 {
		p := dissolve(world(0, 0, 0, 1), world(3, 0, 0, 1), min(max(float64(i-10)/15, 0), 1))
		if f.next(toFrame(p)) {
			n++
		}
	}
	if n > 1 {
		t.Errorf("a dissolve contains %d cuts", n)
	}
}

func BenchmarkCut720(b *testing.B) {
	p := grey(1280, 720)
	f := toFrame(p)
	var c cutFinder
	for b.Loop() {
		c.next(f)
	}
}
