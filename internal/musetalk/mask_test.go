package musetalk

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/face/facetest"
	"github.com/lipstream/lipstream/internal/golden"
)

// turned returns the face turned to the side by an angle in degrees.
func turned(f *face.Face, degrees float64) *face.Face {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	g := &face.Face{}
	for _, p := range f.Points {
		x := p.X - 256
		g.Points = append(g.Points, face.Point{X: 256 + cos*x + sin*p.Z, Y: p.Y, Z: cos*p.Z - sin*x})
	}
	return g
}

func TestFaceMask(t *testing.T) {
	f := facetest.Portrait(t, 1)
	for _, degrees := range []float64{-50, -25, 0, 25, 50} {
		var h head
		g := turned(f, degrees)
		for _, n := range []int{Side, 100} {
			m := h.matrix(g)
			k := float64(n) / Side
			m.A, m.B, m.C, m.D, m.E, m.F = m.A*k, m.B*k, (m.C+0.5)*k-0.5, m.D*k, m.E*k, (m.F+0.5)*k-0.5
			points := mapped(g.Points, m)
			mask := faceMask(points, n)
			at := func(i int) float32 { return mask[int(points[i].Y+0.5)*n+int(points[i].X+0.5)] }
			// In the outline of a turned head, a point is where the feather is.
			least := map[bool]float32{true: 0.35, false: 0.99}[math.Abs(degrees) > 30]
			for _, i := range []int{0, 13, 14, 17, 18, 200} {
				if v := at(i); v < least {
					t.Errorf("%g degrees, %d pixels: the opacity at point %d, lips or chin, is %g", degrees, n, i, v)
				}
			}
			for _, i := range []int{4, 5, 33, 263, 10, 168} {
				if v := at(i); v > 0.01 {
					t.Errorf("%g degrees, %d pixels: the opacity at point %d, nose, eyes or forehead, is %g", degrees, n, i, v)
				}
			}
			for i := range n {
				for _, v := range []float32{mask[i], mask[(n-1)*n+i], mask[i*n], mask[i*n+n-1]} {
					if v != 0 {
						t.Fatalf("%g degrees, %d pixels: the opacity at an edge of the crop is %g", degrees, n, v)
					}
				}
			}
		}
	}
}

func TestHull(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		points := make([]face.Point, 3+random.IntN(30))
		for i := range points {
			points[i] = face.Point{X: float64(random.IntN(20)), Y: random.NormFloat64()}
		}
		h := hull(points)
		for i, a := range h {
			b := h[(i+1)%len(h)]
			for _, p := range points {
				if (b.X-a.X)*(p.Y-a.Y) < (b.Y-a.Y)*(p.X-a.X)-1e-9 {
					t.Fatalf("%v lies outside the hull %v", p, h)
				}
			}
		}
	}
	if h := hull(make([]face.Point, 4)); len(h) > 2 {
		t.Errorf("the hull of one point is %v", h)
	}
}

func TestFill(t *testing.T) {
	for _, within := range []image.Rectangle{image.Rect(0, 0, 8, 8), image.Rect(3, 2, 6, 7), image.Rect(-4, -5, 3, 2)} {
		got := fill([]face.Point{{X: 1.5, Y: 0.5}, {X: 5, Y: 0.5}, {X: 5, Y: 3.5}, {X: 1.5, Y: 3.5}}, within)
		for i, v := range got {
			want := 0.0
			p := image.Pt(i%within.Dx(), i/within.Dx()).Add(within.Min)
			if p.In(image.Rect(2, 1, 5, 4)) {
				want = 1
			} else if p.X == 5 && p.Y >= 1 && p.Y < 4 {
				want = 0.5
			}
			if math.Abs(float64(v)-want) > 1.0/128 {
				t.Errorf("in %v, pixel %v is covered by %g, want %g", within, p, v, want)
			}
		}
	}
}

// TestBlurred compares with a blur of the whole image.
func TestBlurred(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const n = 40
	for _, radius := range []int{0, 1, 2, 5, 9} {
		within := image.Rect(radius+1, n/2, n-radius-1, n-radius-1)
		shape, whole := make([]float32, within.Dx()*within.Dy()), make([]float32, n*n)
		for i := range shape {
			x, y := i%within.Dx(), i/within.Dx()
			shape[i] = float32(y % 7 / 5) // even areas and edges
			if x < 9 {
				shape[i] = random.Float32()
			}
			whole[(within.Min.Y+y)*n+within.Min.X+x] = shape[i]
		}
		got := blurred(shape, within, n, radius)
		if most := golden.MaxAbs(got, face.Blur(whole, n, n, gaussian(radius))); most > 1e-6 {
			t.Errorf("radius %d: the blur of a part differs by %g from that of the whole", radius, most)
		}
	}
}
