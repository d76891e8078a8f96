package musetalk

import (
	"image"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// originalMargin is by how many pixels MuseTalk 1.5 extends the box below the chin.
const originalMargin = 10

// originalBox returns the box of a face by the original's rule, in whole pixels
// (docs/spec/musetalk.md, section 4.2). p are 68 landmarks in pixels. shift moves the middle of
// the box down, in pixels. The box of the face detector is used if the landmarks have no box.
// margin extends the box downwards, up to the frame's height.
func originalBox(p [68][2]float64, detector image.Rectangle, shift, margin, height int) (box image.Rectangle, fromLandmarks bool) {
	x, y := func(i int) int { return int(p[i][0]) }, func(i int) int { return int(p[i][1]) } // truncated
	box = image.Rectangle{Min: image.Pt(x(0), 0), Max: image.Pt(x(0), y(0))}
	for i := range p {
		box.Min.X, box.Max.X, box.Max.Y = min(box.Min.X, x(i)), max(box.Max.X, x(i)), max(box.Max.Y, y(i))
	}
	box.Min.Y = max(0, 2*(y(29)+shift)-box.Max.Y)
	fromLandmarks = box.Min.X >= 0 && !box.Empty()
	if !fromLandmarks {
		box = detector
	}
	box.Max.Y = min(box.Max.Y+margin, height)
	return box, fromLandmarks
}

// landmarks68 holds the points of the mesh that are nearest to the 68 landmarks. Landmarks 8
// and 29 lie elsewhere (docs/spec/musetalk.md, section 4.3).
var landmarks68 = [68]int{
	162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389, 71, 63, 105, 66, 107, 336, 296,
	334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61, 39,
	37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
}

// meshBox returns the original's box for a face of the mesh in a frame of w×h pixels. The
// bounds of the mesh stand for the face detector's box.
func meshBox(points []face.Point, w, h int) image.Rectangle {
	var p [68][2]float64
	for i, k := range landmarks68 {
		p[i] = [2]float64{points[k].X, points[k].Y}
	}
	chin, nose := points[152].Y, mean(points, bridge)
	p[8][1], p[29] = chin+chinDrop*(chin-mean(points, brows).Y), [2]float64{nose.X, nose.Y}
	bounds := image.Rect(int(points[0].X), int(points[0].Y), int(points[0].X)+1, int(points[0].Y)+1)
	for _, q := range points {
		bounds = bounds.Union(image.Rect(int(q.X), int(q.Y), int(q.X)+1, int(q.Y)+1))
	}
	box, _ := originalBox(p, bounds.Intersect(image.Rect(0, 0, w, h)), 0, originalMargin, h)
	return box
}

// boxMatrix returns the map from the frame to the crop of Side×Side pixels that a box is
// stretched to.
func boxMatrix(box image.Rectangle) frame.Affine {
	if box.Empty() {
		return frame.Affine{}
	}
	x, y := Side/float64(box.Dx()), Side/float64(box.Dy())
	return frame.Affine{A: x, C: (0.5-float64(box.Min.X))*x - 0.5, E: y, F: (0.5-float64(box.Min.Y))*y - 0.5}
}

// matrixBox is the inverse of boxMatrix.
func matrixBox(m frame.Affine) image.Rectangle {
	inv, _ := m.Invert()
	corner := func(u float64) image.Point {
		x, y := inv.Apply(u, u)
		return image.Pt(int(math.Round(x+0.5)), int(math.Round(y+0.5)))
	}
	return image.Rectangle{Min: corner(-0.5), Max: corner(Side - 0.5)}
}

// originalSquare returns the square around a box in which the original pastes
// (docs/spec/musetalk.md, section 6.1). Its sides are even.
func originalSquare(box image.Rectangle) image.Rectangle {
	x, y := (box.Min.X+box.Max.X)>>1, (box.Min.Y+box.Max.Y)>>1
	s := int(float64(max(box.Dx(), box.Dy())/2) * 1.5)
	return image.Rect(x-s, y-s, x+s, y+s)
}
