// Package scene makes short clips of a face whose landmarks are known in every frame,
// out of one picture of it: turned, small, cut, dark, noisy, covered. The benchmark of
// faces follows the face in them.
package scene

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
)

const (
	// Side is the width and height of all clips.
	Side = 480
	// Frames is the length of a clip.
	Frames = 6

	normalWidth = 170 // pixels between the ears where a case does not say otherwise
	grey        = 118 // of the background beyond the picture
)

// Subject is a picture of a face with its landmarks, in pixels of the picture.
type Subject struct {
	Image  *frame.RGB
	Points []face.Point
}

// Want says what a tracker should do with a clip.
type Want int

// What a tracker should do.
const (
	Find   Want = iota // find the face in all frames
	May                // find it or not, but never find another one
	Refuse             // find nothing: no face can be seen
)

// Case describes a clip.
type Case struct {
	Group, Name string
	Want        Want
	// Limit is the largest error of the landmarks that is accepted, as a share of the
	// distance between the outer corners of the eyes.
	Limit float64

	angle      float64 // clockwise, in degrees
	width      float64 // pixels between the ears, 0 for normalWidth
	dx, dy     float64 // from the middle of the frame, in widths of the face
	yaw, pitch float64 // degrees: to the image's right, downwards
	draw       func(c *canvas)
	degrade    func(p *frame.RGB, rng *rand.Rand) // each frame
	codec      []string                           // arguments of ffmpeg
}

// Shot is a frame of a clip.
type Shot struct {
	Image  *frame.RGB
	Points []face.Point // where the landmarks are; nil without a face
}

// Eyes returns the distance between the outer corners of the eyes, as it would be if the
// head were not turned.
func Eyes(p []face.Point) float64 {
	a, b := p[33], p[263]
	return math.Hypot(math.Hypot(a.X-b.X, a.Y-b.Y), a.Z-b.Z)
}

// Shots makes the clip. The face moves a little from frame to frame.
func (c Case) Shots(ctx context.Context, tools media.Tools, s Subject) ([]Shot, error) {
	if c.draw != nil {
		canvas := newCanvas(s)
		c.draw(canvas)
		s.Image = canvas.image()
	}
	if c.yaw != 0 || c.pitch != 0 {
		s = s.turned(c.yaw*math.Pi/180, c.pitch*math.Pi/180)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	shots := make([]Shot, Frames)
	for i := range shots {
		shots[i] = c.shot(s, i)
		if c.degrade != nil {
			c.degrade(shots[i].Image, rng)
		}
	}
	if c.codec == nil {
		return shots, nil
	}
	return shots, transcode(ctx, tools, c.codec, shots)
}

// shot places the subject in frame i.
func (c Case) shot(s Subject, i int) Shot {
	width := c.width
	if width == 0 {
		width = normalWidth
	}
	ears := math.Hypot(s.Points[454].X-s.Points[234].X, s.Points[454].Z-s.Points[234].Z)
	scale := width / ears
	p := s.Image
	// Averaged, so that a small face is not more aliased than that of a camera.
	reduced := 1.0
	for scale*reduced <= 0.5 {
		p, reduced = p.Half(), 2*reduced
	}
	t := float64(i)
	sin, cos := math.Sincos(c.angle*math.Pi/180 + 0.01*t)
	to := frame.Affine{A: scale * cos, B: -scale * sin, D: scale * sin, E: scale * cos}
	x, y := centre(s.Points)
	x, y = to.Apply(x, y)
	to.C = Side/2 + c.dx*width + 0.01*width*t - x
	to.F = Side/2 + c.dy*width - 0.005*width*t - y
	from, _ := to.Invert()
	shift := (1/reduced - 1) / 2 // of the first pixel
	shot := Shot{Image: frame.NewRGB(Side, Side)}
	p.Warp(shot.Image, frame.Affine{
		A: from.A / reduced, B: from.B / reduced, C: from.C/reduced + shift,
		D: from.D / reduced, E: from.E / reduced, F: from.F/reduced + shift,
	}, frame.Constant, grey)
	if c.Want == Refuse {
		return shot
	}
	for _, q := range s.Points {
		x, y := to.Apply(q.X, q.Y)
		shot.Points = append(shot.Points, face.Point{X: x, Y: y, Z: scale * q.Z})
	}
	return shot
}

// centre returns the middle of the face.
func centre(p []face.Point) (x, y float64) {
	for _, i := range face.FaceOval {
		x += p[i].X / float64(len(face.FaceOval))
		y += p[i].Y / float64(len(face.FaceOval))
	}
	return x, y
}

// Outside returns how many of the lips' points lie outside the face.
func Outside(lips, face []face.Point) (n int) {
	hull := convexHull(face)
	for _, i := range Lips {
		if !inside(hull, lips[i]) {
			n++
		}
	}
	return n
}

// Lips is the outer edge of the lips, in order, as indices of mesh points.
var Lips = []int{61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185}
