package scene

import (
	"cmp"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// The rings around the face that carry its motion into hair and neck: their distance from
// its centre in units of the oval's, and the share of the motion that they follow.
var rings = []struct{ reach, share float64 }{{1.3, 0.6}, {2.1, 0}}

// turned turns the head in depth. The pixels follow the triangles of the mesh, with the
// depths that the mesh network found. It looks right up to about 45 degrees; beyond that
// the ears and the side of the head, which the picture does not show, are missing.
func (s Subject) turned(yaw, pitch float64) Subject {
	cx, cy := centre(s.Points)
	width := s.Points[454].X - s.Points[234].X
	cz := width / 2 // behind the face: the axis of the neck
	sy, cosY := math.Sincos(yaw)
	sp, cosP := math.Sincos(pitch)
	out := Subject{Image: frame.NewRGB(s.Image.W, s.Image.H), Points: make([]face.Point, len(s.Points))}
	for i, p := range s.Points {
		x, y, z := p.X-cx, p.Y-cy, p.Z-cz
		y, z = cosP*y-sp*z, sp*y+cosP*z
		x, z = cosY*x-sy*z, sy*x+cosY*z
		out.Points[i] = face.Point{X: cx + x, Y: cy + y, Z: cz + z}
	}
	copy(out.Image.Pix, s.Image.Pix)
	s.drawRings(out, cx, cy)
	triangles := slices.Clone(face.Triangles)
	depth := func(t [3]uint16) float64 { return out.Points[t[0]].Z + out.Points[t[1]].Z + out.Points[t[2]].Z }
	slices.SortStableFunc(triangles, func(a, b [3]uint16) int { return cmp.Compare(depth(b), depth(a)) })
	for _, t := range triangles {
		from := [3]face.Point{s.Points[t[0]], s.Points[t[1]], s.Points[t[2]]}
		to := [3]face.Point{out.Points[t[0]], out.Points[t[1]], out.Points[t[2]]}
		if area(from)*area(to) > 0 {
			triangle(out.Image, s.Image, to, from)
		}
	}
	return out
}

// drawRings draws what surrounds the face.
func (s Subject) drawRings(out Subject, cx, cy float64) {
	n := len(face.FaceOval)
	at := func(ring, i int) (from, to face.Point) {
		k := face.FaceOval[i%n]
		a, b := s.Points[k], out.Points[k]
		if ring < 0 {
			return a, b
		}
		r := rings[ring]
		from = face.Point{X: cx + r.reach*(a.X-cx), Y: cy + r.reach*(a.Y-cy)}
		return from, face.Point{X: from.X + r.share*(b.X-a.X), Y: from.Y + r.share*(b.Y-a.Y)}
	}
	for ring := len(rings) - 1; ring >= 0; ring-- {
		for i := range n {
			a, a2 := at(ring-1, i)
			b, b2 := at(ring-1, i+1)
			c, c2 := at(ring, i)
			d, d2 := at(ring, i+1)
			triangle(out.Image, s.Image, [3]face.Point{a2, b2, c2}, [3]face.Point{a, b, c})
			triangle(out.Image, s.Image, [3]face.Point{b2, d2, c2}, [3]face.Point{b, d, c})
		}
	}
}

// area returns twice the area of the triangle, signed by its orientation.
func area(t [3]face.Point) float64 {
	return (t[1].X-t[0].X)*(t[2].Y-t[0].Y) - (t[1].Y-t[0].Y)*(t[2].X-t[0].X)
}

// triangle draws a triangle of src onto one of dst.
func triangle(dst, src *frame.RGB, to, from [3]face.Point) {
	a := area(to)
	if math.Abs(a) < 1e-6 {
		return
	}
	x0 := max(int(min(to[0].X, to[1].X, to[2].X)), 0)
	x1 := min(int(max(to[0].X, to[1].X, to[2].X))+1, dst.W-1)
	y0 := max(int(min(to[0].Y, to[1].Y, to[2].Y)), 0)
	y1 := min(int(max(to[0].Y, to[1].Y, to[2].Y))+1, dst.H-1)
	const edge = -0.001 // draws the pixels on an edge from both sides
	for y := y0; y <= y1; y++ {
		for x := x0; x <= x1; x++ {
			p := face.Point{X: float64(x), Y: float64(y)}
			u, v := area([3]face.Point{p, to[1], to[2]})/a, area([3]face.Point{to[0], p, to[2]})/a
			w := 1 - u - v
			if u < edge || v < edge || w < edge {
				continue
			}
			sample(dst.Pix[3*(y*dst.W+x):][:3], src, u*from[0].X+v*from[1].X+w*from[2].X, u*from[0].Y+v*from[1].Y+w*from[2].Y)
		}
	}
}

// sample reads src bilinearly and repeats its edges.
func sample(rgb []byte, src *frame.RGB, x, y float64) {
	x, y = min(max(x, 0), float64(src.W-1)), min(max(y, 0), float64(src.H-1))
	ix, iy := min(int(x), src.W-2), min(int(y), src.H-2)
	fx, fy := x-float64(ix), y-float64(iy)
	for c := range rgb {
		at := func(dx, dy int) float64 { return float64(src.Pix[3*((iy+dy)*src.W+ix+dx)+c]) }
		rgb[c] = byte((1-fy)*((1-fx)*at(0, 0)+fx*at(1, 0)) + fy*((1-fx)*at(0, 1)+fx*at(1, 1)) + 0.5)
	}
}

// convexHull returns the smallest convex polygon around the points (Andrew's monotone
// chain).
func convexHull(points []face.Point) []face.Point {
	p := slices.SortedFunc(slices.Values(points), func(a, b face.Point) int {
		return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y))
	})
	var hull []face.Point
	for range 2 {
		first := len(hull)
		for _, q := range p {
			for len(hull) >= first+2 && area([3]face.Point{hull[len(hull)-2], hull[len(hull)-1], q}) <= 0 {
				hull = hull[:len(hull)-1]
			}
			hull = append(hull, q)
		}
		hull = hull[:len(hull)-1]
		slices.Reverse(p)
	}
	return hull
}

// inside reports whether p lies in a convex polygon.
func inside(hull []face.Point, p face.Point) bool {
	for i, a := range hull {
		if area([3]face.Point{a, hull[(i+1)%len(hull)], p}) < 0 {
			return false
		}
	}
	return true
}
