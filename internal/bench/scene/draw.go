package scene

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"math/rand/v2"

	"golang.org/x/image/vector"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// canvas is a picture that is drawn on.
type canvas struct {
	Subject
	rgba *image.RGBA
	eyes float64 // distance between the outer corners of the eyes, the unit of drawing
	down face.Point
}

func newCanvas(s Subject) *canvas {
	c := &canvas{Subject: s, rgba: s.Image.Image(), eyes: Eyes(s.Points)}
	top, chin := s.Points[10], s.Points[152]
	l := math.Hypot(chin.X-top.X, chin.Y-top.Y)
	c.down = face.Point{X: (chin.X - top.X) / l, Y: (chin.Y - top.Y) / l}
	return c
}

// image returns the picture.
func (c *canvas) image() *frame.RGB {
	p := frame.NewRGB(c.rgba.Rect.Dx(), c.rgba.Rect.Dy())
	for i, j := 0, 0; i < len(p.Pix); i, j = i+3, j+4 {
		copy(p.Pix[i:i+3], c.rgba.Pix[j:j+3])
	}
	return p
}

// at returns a landmark, moved to the face's right and down in units of the eyes.
func (c *canvas) at(i int, right, down float64) face.Point {
	p := c.Points[i]
	return face.Point{
		X: p.X + c.eyes*(right*c.down.Y+down*c.down.X),
		Y: p.Y + c.eyes*(-right*c.down.X+down*c.down.Y),
	}
}

// fill fills polygons, the later ones as holes if they turn the other way.
func (c *canvas) fill(col color.Color, polygons ...[]face.Point) {
	box := image.Rectangle{}
	for _, p := range polygons {
		for _, q := range p {
			at := image.Pt(int(q.X), int(q.Y))
			box = box.Union(image.Rectangle{at, at.Add(image.Pt(1, 1))}.Inset(-1))
		}
	}
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	at := func(q face.Point) (x, y float32) {
		return float32(q.X - float64(box.Min.X)), float32(q.Y - float64(box.Min.Y))
	}
	for _, p := range polygons {
		r.MoveTo(at(p[0]))
		for _, q := range p[1:] {
			r.LineTo(at(q))
		}
		r.ClosePath()
	}
	r.DrawOp = draw.Over
	r.Draw(c.rgba, box, image.NewUniform(col), image.Point{})
}

// ellipse returns an ellipse; a negative rx makes it turn the other way.
func ellipse(p face.Point, rx, ry float64) (out []face.Point) {
	for i := range 48 {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / 48)
		out = append(out, face.Point{X: p.X + rx*cos, Y: p.Y + ry*sin})
	}
	return out
}

// capsule returns a thick line with round ends.
func capsule(a, b face.Point, r float64) (out []face.Point) {
	t := math.Atan2(b.Y-a.Y, b.X-a.X)
	for i := range 24 {
		p, at := b, t-math.Pi/2+math.Pi*float64(i%12)/11
		if i >= 12 {
			p, at = a, at+math.Pi
		}
		out = append(out, face.Point{X: p.X + r*math.Cos(at), Y: p.Y + r*math.Sin(at)})
	}
	return out
}

func (c *canvas) points(indices ...int) (out []face.Point) {
	for _, i := range indices {
		out = append(out, c.Points[i])
	}
	return out
}

// lowerFace is the outline of jaw and chin, closed below the nose.
var lowerFace = []int{
	93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323,
	425, 327, 2, 98, 205,
}

func (c *canvas) glasses() {
	black := color.RGBA{20, 18, 16, 255}
	for _, eye := range [][2]int{{33, 133}, {362, 263}} {
		m := c.middle(eye[0], eye[1])
		r := 0.27 * c.eyes
		c.fill(black, ellipse(m, r, 0.85*r), ellipse(m, -0.84*r, 0.7*r))
	}
	c.fill(black, capsule(c.at(133, 0.08, -0.05), c.at(362, -0.08, -0.05), 0.02*c.eyes))
	c.fill(black, capsule(c.at(33, -0.1, -0.05), c.at(234, 0, -0.1), 0.025*c.eyes))
	c.fill(black, capsule(c.at(263, 0.1, -0.05), c.at(454, 0, -0.1), 0.025*c.eyes))
}

func (c *canvas) middle(i, j int) face.Point {
	a, b := c.Points[i], c.Points[j]
	return face.Point{X: (a.X + b.X) / 2, Y: (a.Y + b.Y) / 2}
}

func (c *canvas) sunglasses() {
	c.glasses()
	for _, eye := range [][2]int{{33, 133}, {362, 263}} {
		c.fill(color.RGBA{15, 15, 18, 255}, ellipse(c.middle(eye[0], eye[1]), 0.26*c.eyes, 0.22*c.eyes))
	}
}

func (c *canvas) beard() {
	mouth := c.points(Lips...)
	rng := rand.New(rand.NewPCG(3, 4))
	c.fill(color.RGBA{62, 44, 32, 235}, c.points(lowerFace...), mouth)
	hull := convexHull(c.points(lowerFace...))
	lips := convexHull(mouth)
	for range 2500 {
		p := c.Points[lowerFace[rng.IntN(len(lowerFace))]]
		q := c.Points[lowerFace[rng.IntN(len(lowerFace))]]
		t := rng.Float64()
		a := face.Point{X: p.X + t*(q.X-p.X), Y: p.Y + t*(q.Y-p.Y)}
		if !inside(hull, a) || inside(lips, a) {
			continue
		}
		shade := uint8(30 + rng.IntN(70))
		b := face.Point{X: a.X + 0.02*c.eyes*rng.NormFloat64(), Y: a.Y + 0.06*c.eyes}
		c.fill(color.RGBA{shade, shade * 3 / 4, shade / 2, 255}, capsule(a, b, 0.006*c.eyes))
	}
}

func (c *canvas) mask() {
	outline := c.points(93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 425, 351, 197, 122, 205)
	c.fill(color.RGBA{150, 195, 215, 255}, outline)
	for k := range 3 {
		y := 0.18 * float64(k)
		c.fill(color.RGBA{120, 165, 190, 255}, capsule(c.at(205, -0.05, 0.1+y), c.at(425, 0.05, 0.1+y), 0.008*c.eyes))
	}
}

func (c *canvas) hand() {
	skin, line := color.RGBA{205, 160, 135, 255}, color.RGBA{150, 105, 85, 255}
	for k := range 4 {
		a, b := c.at(152, -0.9, 0.15+0.2*float64(k)), c.at(13, 0.3-0.12*float64(k), 0.02+0.2*float64(k))
		c.fill(line, capsule(a, b, 0.115*c.eyes))
		c.fill(skin, capsule(a, b, 0.1*c.eyes))
	}
	c.fill(skin, capsule(c.at(152, -1.1, 0.4), c.at(152, -0.8, 0.5), 0.35*c.eyes))
}

func (c *canvas) microphone() {
	c.fill(color.RGBA{35, 35, 38, 255}, capsule(c.at(17, 0.1, 0.3), c.at(152, 0.5, 1.4), 0.13*c.eyes))
	c.fill(color.RGBA{70, 70, 74, 255}, ellipse(c.at(17, 0.05, 0.15), 0.27*c.eyes, 0.27*c.eyes))
	c.fill(color.RGBA{110, 110, 115, 255}, ellipse(c.at(17, 0, 0.1), 0.12*c.eyes, 0.12*c.eyes))
}

// board covers the face.
func (c *canvas) board() {
	var p []face.Point
	x, y := centre(c.Points)
	for _, q := range convexHull(c.Points) {
		p = append(p, face.Point{X: x + 1.2*(q.X-x), Y: y + 1.2*(q.Y-y)})
	}
	c.fill(color.RGBA{96, 104, 112, 255}, p)
}

// hair covers the face with the hair above the forehead, as if the head were seen from
// behind.
func (c *canvas) hair() {
	x, y := centre(c.Points)
	top := c.at(10, 0, -0.28)
	patch := image.Rect(int(top.X-0.3*c.eyes), int(top.Y-0.14*c.eyes), int(top.X+0.3*c.eyes), int(top.Y+0.14*c.eyes))
	hull := convexHull(c.Points)
	// mirror walks to and fro over n pixels.
	mirror := func(v, n int) int {
		v = ((v % (2 * n)) + 2*n) % (2 * n)
		return min(v, 2*n-1-v)
	}
	for v := range c.rgba.Rect.Dy() {
		for u := range c.rgba.Rect.Dx() {
			if inside(hull, face.Point{X: x + (float64(u)-x)/1.12, Y: y + (float64(v)-y)/1.12}) {
				c.rgba.SetRGBA(u, v, c.rgba.RGBAAt(patch.Min.X+mirror(u, patch.Dx()), patch.Min.Y+mirror(v, patch.Dy())))
			}
		}
	}
}

// backlight leaves the head a fifth of its light, in front of a bright window.
func (c *canvas) backlight() {
	x, y := centre(c.Points)
	hull := convexHull(c.Points)
	for v := range c.rgba.Rect.Dy() {
		for u := range c.rgba.Rect.Dx() {
			p := c.rgba.RGBAAt(u, v)
			if inside(hull, face.Point{X: x + (float64(u)-x)/1.5, Y: y + (float64(v)-y)/1.5}) {
				p = color.RGBA{p.R / 5, p.G / 5, p.B / 5, 255}
			} else {
				p = color.RGBA{225 + p.R/10, 225 + p.G/10, 225 + p.B/10, 255}
			}
			c.rgba.SetRGBA(u, v, p)
		}
	}
}
