package scene

import (
	"image/color"
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
)

// mean is the mean face in a black picture, with a white dot on one landmark.
func mean(dot int) Subject {
	s := Subject{Image: frame.NewRGB(512, 512)}
	for i := range face.Points {
		q := face.Canonical[min(i, face.MeshPoints-1)]
		s.Points = append(s.Points, face.Point{X: 256 + 14*q.X, Y: 256 - 14*q.Y, Z: -14 * q.Z})
	}
	c := newCanvas(s)
	for i := range c.rgba.Pix {
		c.rgba.Pix[i] = 0
		if i%4 == 3 {
			c.rgba.Pix[i] = 255
		}
	}
	c.fill(color.White, ellipse(s.Points[dot], 4, 4))
	s.Image = c.image()
	return s
}

// TestTruth checks that the pixels of a landmark are where its coordinates say, in every
// frame.
func TestTruth(t *testing.T) {
	for _, c := range []Case{
		{}, {angle: 30}, {angle: 180, dx: 0.3, dy: -0.2}, {width: 300}, {width: 90}, {yaw: 30}, {yaw: -45, angle: 90}, {pitch: 20, width: 250},
	} {
		for _, dot := range []int{4, 61, 291, 152} {
			shots, err := c.Shots(t.Context(), media.Tools{}, mean(dot))
			if err != nil || len(shots) != Frames {
				t.Fatal(len(shots), err)
			}
			for i, s := range shots {
				var x, y, sum float64
				for k := 0; k < len(s.Image.Pix); k += 3 {
					// Beyond the picture there is grey.
					if v := float64(s.Image.Pix[k]); v > grey+10 {
						x, y, sum = x+v*float64(k/3%Side), y+v*float64(k/3/Side), sum+v
					}
				}
				want := s.Points[dot]
				if d := math.Hypot(x/sum-want.X, y/sum-want.Y); !(d < 2) {
					t.Errorf("%+v, landmark %d, frame %d: %.1f pixels off", c, dot, i, d)
				}
			}
		}
	}
}

// TestMovement checks that the frames of a clip differ, so that no tracker sees a still.
func TestMovement(t *testing.T) {
	shots, err := Case{}.Shots(t.Context(), media.Tools{}, mean(4))
	if err != nil {
		t.Fatal(err)
	}
	for i := range Frames - 1 {
		a, b := shots[i].Points[4], shots[i+1].Points[4]
		if d := math.Hypot(a.X-b.X, a.Y-b.Y); d < 0.5 || d > 5 {
			t.Errorf("frame %d moves by %.1f pixels", i, d)
		}
	}
}

func TestOutside(t *testing.T) {
	points := mean(4).Points
	if n := Outside(points, points); n != 0 {
		t.Errorf("%d points of a face's own lips lie outside it", n)
	}
	moved := make([]face.Point, len(points))
	for i, p := range points {
		moved[i] = face.Point{X: p.X, Y: p.Y - 200}
	}
	if n := Outside(moved, points); n != len(Lips) {
		t.Errorf("%d points of lips above the face lie outside it, want all %d", n, len(Lips))
	}
}

// TestCases checks that names are unique and that clips without a face have no landmarks.
func TestCases(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		name := c.Group + ": " + c.Name
		if seen[name] || c.Name == "" || !(c.Limit > 0 && c.Limit <= 0.12) {
			t.Errorf("%q, limit %v", name, c.Limit)
		}
		seen[name] = true
		if has := c.shot(mean(4), 0).Points != nil; has != (c.Want != Refuse) {
			t.Errorf("%q: landmarks %v", name, has)
		}
	}
}
