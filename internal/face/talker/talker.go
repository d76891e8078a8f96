// Package talker draws a head that talks, as a source for tests of engines.
package talker

import (
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// Head draws a talking head from one picture: the mesh of the face as a surface in
// space, whose jaw drops as far as that of somebody who shouts, with teeth, tongue and
// throat behind the lips. The movement is known, so a test can compare with it. It
// shares no code with the engines.
type Head struct {
	picture    *frame.RGB
	rest       []face.Point // the mesh and the rings around it, in pixels of the picture
	centre     face.Point
	unit       float64 // distance between the outer eye corners
	triangles  [][3]uint16
	neighbours [][]uint16
	held       []bool // points whose movement is prescribed
	tooth, lip [3]float64
}

// Look is what a Head shows in one frame.
type Look struct {
	Gap        float64      // between the inner lips, in units of the distance between the eye corners
	Pucker     float64      // 0..1: the corners drawn in
	Yaw, Pitch float64      // of the head, radians
	View       frame.Affine // from pixels of the picture to those of the frame
}

const talkerRings = 5

// outward is how far each ring around the face is from its centre, and how far it lies
// behind the oval, in units of the distance between the eye corners.
var outward = [talkerRings][2]float64{{1.12, 0.15}, {1.3, 0.4}, {1.55, 0.6}, {1.9, 0.6}, {2.4, 0}}

// The lips in columns from corner to corner, in rings from the outer edge to the inner one.
var (
	talkerLower = [4][11]uint16{
		{61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291}, {76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306},
		{62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292}, {78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308},
	}
	talkerUpper = [4][11]uint16{
		{61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291}, {76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306},
		{62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292}, {78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308},
	}
)

// talkerJaw holds the jaw line from the ears to the chin, with the share of the drop
// that each point takes.
var talkerJaw = []struct {
	left, right uint16
	share       float64
}{
	{93, 323, 0.03}, {132, 361, 0.1}, {58, 288, 0.22}, {172, 397, 0.4}, {136, 365, 0.6}, {150, 379, 0.8},
	{149, 378, 0.92}, {176, 400, 0.98}, {148, 377, 1}, {152, 152, 1},
}

// New returns a Head for a picture whose face has the given points.
func New(picture *frame.RGB, points []face.Point) *Head {
	t := &Head{picture: picture, rest: append([]face.Point(nil), points[:face.MeshPoints]...)}
	l, r := points[33], points[263]
	t.unit = math.Sqrt((l.X-r.X)*(l.X-r.X) + (l.Y-r.Y)*(l.Y-r.Y) + (l.Z-r.Z)*(l.Z-r.Z))
	for k := 3; k <= 7; k++ {
		up, lo := t.rest[talkerUpper[3][k]], t.rest[talkerLower[3][k]]
		for n, v := range t.sample((up.X+lo.X)/2, (up.Y+lo.Y)/2) {
			t.tooth[n] += v / 5
		}
	}
	t.lip = t.mean(16, 17, 84, 314, 85, 315)
	n := len(face.FaceOval)
	for _, i := range face.FaceOval {
		t.centre = plus(t.centre, points[i], 1/float64(n))
	}
	t.centre.Z += 0.5 * t.unit
	inner := map[uint16]bool{}
	for k := range talkerLower[3] {
		inner[talkerLower[3][k]], inner[talkerUpper[3][k]] = true, true
	}
	for _, tri := range face.Triangles {
		if !inner[tri[0]] || !inner[tri[1]] || !inner[tri[2]] {
			t.triangles = append(t.triangles, tri)
		}
	}
	for r, ring := range outward {
		for _, i := range face.FaceOval {
			p := points[i]
			t.rest = append(t.rest, face.Point{
				X: t.centre.X + (p.X-t.centre.X)*ring[0], Y: t.centre.Y + (p.Y-t.centre.Y)*ring[0], Z: p.Z + ring[1]*t.unit,
			})
		}
		at := func(ring, i int) uint16 {
			if ring < 0 {
				return uint16(face.FaceOval[i%n])
			}
			return uint16(face.MeshPoints + ring*n + i%n)
		}
		for i := range n {
			a, b, c, d := at(r-1, i), at(r-1, i+1), at(r, i), at(r, i+1)
			t.triangles = append(t.triangles, [3]uint16{a, b, c}, [3]uint16{b, d, c})
		}
	}
	t.connect()
	return t
}

// connect finds the neighbours of each point and which points do not follow them.
func (t *Head) connect() {
	t.neighbours = make([][]uint16, len(t.rest))
	for _, tri := range t.triangles {
		for k := range 3 {
			a, b := tri[k], tri[(k+1)%3]
			t.neighbours[a], t.neighbours[b] = append(t.neighbours[a], b), append(t.neighbours[b], a)
		}
	}
	t.held = make([]bool, len(t.rest))
	for i := range t.rest {
		// The skull, down to the base of the nose, and the outermost ring.
		t.held[i] = i < face.MeshPoints && face.Canonical[i].Y >= face.Canonical[2].Y || i >= len(t.rest)-len(face.FaceOval)
	}
	for r := range talkerLower {
		for k := range talkerLower[r] {
			t.held[talkerLower[r][k]], t.held[talkerUpper[r][k]] = true, true
		}
	}
	for _, j := range talkerJaw {
		t.held[j.left], t.held[j.right] = true, true
	}
}

func plus(a, b face.Point, k float64) face.Point {
	return face.Point{X: a.X + k*b.X, Y: a.Y + k*b.Y, Z: a.Z + k*b.Z}
}

// mean returns the mean colour of the picture at points of the mesh.
func (t *Head) mean(points ...int) (c [3]float64) {
	for _, i := range points {
		s := t.sample(t.rest[i].X, t.rest[i].Y)
		for n := range 3 {
			c[n] += s[n] / float64(len(points))
		}
	}
	return c
}

// sample returns the colour of the picture at a place, between four pixels each way.
func (t *Head) sample(x, y float64) (c [3]float64) {
	w, h := t.picture.Size()
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	wx, wy := talkerCubic(x-float64(x0)), talkerCubic(y-float64(y0))
	for j := range 4 {
		yy := min(max(y0-1+j, 0), h-1)
		for i := range 4 {
			at := 3 * (yy*w + min(max(x0-1+i, 0), w-1))
			k := wx[i] * wy[j]
			for n := range 3 {
				c[n] += k * float64(t.picture.Pix[at+n])
			}
		}
	}
	return c
}

func talkerCubic(f float64) [4]float64 {
	return [4]float64{
		((-0.5*f+1)*f - 0.5) * f, (1.5*f-2.5)*f*f + 1, ((-1.5*f+2)*f + 0.5) * f, (0.5*f - 0.5) * f * f,
	}
}

// shape returns the points in space with the mouth and the head as in l, in pixels of
// the picture.
func (t *Head) shape(l Look) []face.Point {
	move := make([]face.Point, len(t.rest))
	gap := l.Gap * t.unit
	left, right := t.rest[61], t.rest[291]
	mid := (left.X + right.X) / 2
	narrow := 0.3*l.Gap + 0.16*l.Pucker
	for k := range 11 {
		x := float64(k-5) / 5
		profile := math.Pow(1-x*x, 0.6)
		up, lo := t.rest[talkerUpper[3][k]], t.rest[talkerLower[3][k]]
		seam := up.Y + 0.4*(lo.Y-up.Y)
		for r := range talkerLower {
			u, d := talkerUpper[r][k], talkerLower[r][k]
			move[u] = face.Point{X: (mid - t.rest[u].X) * narrow, Y: seam - up.Y - 0.12*gap*profile}
			move[d] = face.Point{X: (mid - t.rest[d].X) * narrow, Y: seam - lo.Y + 0.88*gap*profile}
			if k == 0 || k == 10 {
				move[d] = face.Point{X: (mid - t.rest[d].X) * narrow, Y: 0.2 * gap}
			}
		}
	}
	for _, j := range talkerJaw {
		move[j.left], move[j.right] = face.Point{Y: 0.85 * gap * j.share}, face.Point{Y: 0.85 * gap * j.share}
	}
	for range 200 {
		for i, held := range t.held {
			if held {
				continue
			}
			var s face.Point
			for _, j := range t.neighbours[i] {
				s = plus(s, move[j], 1/float64(len(t.neighbours[i])))
			}
			move[i] = s
		}
	}
	out := make([]face.Point, len(t.rest))
	for i, p := range t.rest {
		turn := 1.0
		if ring := (i - face.MeshPoints) / len(face.FaceOval); i >= face.MeshPoints {
			turn = [talkerRings]float64{1, 1, 0.9, 0.5, 0}[ring]
		}
		r := turned(l, turn)
		out[i] = t.rotate(r, plus(p, move[i], 1))
	}
	return out
}

// turned returns the share of the head's rotation as a matrix.
func turned(l Look, share float64) [3][3]float64 {
	sy, cy := math.Sincos(l.Yaw * share)
	sp, cp := math.Sincos(l.Pitch * share)
	return [3][3]float64{{cy, 0, sy}, {sp * sy, cp, -sp * cy}, {-cp * sy, sp, cp * cy}}
}

func (t *Head) rotate(r [3][3]float64, p face.Point) face.Point {
	d := [3]float64{p.X - t.centre.X, p.Y - t.centre.Y, p.Z - t.centre.Z}
	var o [3]float64
	for i := range 3 {
		o[i] = r[i][0]*d[0] + r[i][1]*d[1] + r[i][2]*d[2]
	}
	return face.Point{X: o[0] + t.centre.X, Y: o[1] + t.centre.Y, Z: o[2] + t.centre.Z}
}

// Draw draws l over dst and returns the mesh of the face there: 468 points. It draws nothing
// if l.View has no inverse.
func (t *Head) Draw(dst *frame.RGB, l Look) []face.Point {
	back, ok := l.View.Invert()
	if !ok {
		return nil
	}
	t.picture.Warp(dst, back, frame.Replicate, 0)
	points := t.shape(l)
	for i, p := range points {
		points[i].X, points[i].Y = l.View.Apply(p.X, p.Y)
	}
	// Two samples each way for a pixel.
	w, h := 2*dst.W, 2*dst.H
	type hit struct {
		z, u, v float32
		set     bool
	}
	hits := make([]hit, w*h)
	for _, tri := range t.triangles {
		var p [3]face.Point
		for k := range 3 {
			p[k] = points[tri[k]]
			p[k].X, p[k].Y = 2*p[k].X+0.5, 2*p[k].Y+0.5
		}
		det := (p[1].X-p[0].X)*(p[2].Y-p[0].Y) - (p[1].Y-p[0].Y)*(p[2].X-p[0].X)
		if det > -1e-9 {
			continue // seen from behind
		}
		x0, x1 := max(0, int(math.Ceil(min(p[0].X, p[1].X, p[2].X)))), min(w-1, int(max(p[0].X, p[1].X, p[2].X)))
		y0, y1 := max(0, int(math.Ceil(min(p[0].Y, p[1].Y, p[2].Y)))), min(h-1, int(max(p[0].Y, p[1].Y, p[2].Y)))
		for y := y0; y <= y1; y++ {
			for x := x0; x <= x1; x++ {
				dx, dy := float64(x)-p[0].X, float64(y)-p[0].Y
				b1 := (dx*(p[2].Y-p[0].Y) - dy*(p[2].X-p[0].X)) / det
				b2 := (dy*(p[1].X-p[0].X) - dx*(p[1].Y-p[0].Y)) / det
				if b1 < -1e-9 || b2 < -1e-9 || b1+b2 > 1+1e-9 {
					continue
				}
				b0 := 1 - b1 - b2
				z := float32(b0*p[0].Z + b1*p[1].Z + b2*p[2].Z)
				at := &hits[y*w+x]
				if at.set && at.z <= z {
					continue
				}
				a, b, c := t.rest[tri[0]], t.rest[tri[1]], t.rest[tri[2]]
				*at = hit{z, float32(b0*a.X + b1*b.X + b2*c.X), float32(b0*a.Y + b1*b.Y + b2*c.Y), true}
			}
		}
	}
	x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for k := range 11 {
		for _, i := range []uint16{talkerUpper[3][k], talkerLower[3][k]} {
			x0, x1 = min(x0, points[i].X), max(x1, points[i].X)
			y0, y1 = min(y0, points[i].Y), max(y1, points[i].Y)
		}
	}
	mouth := t.inside(l)
	// What is that far behind the lips is seen through them: the far side of the head.
	deep := float32(max(points[61].Z, points[291].Z, points[0].Z) + 0.25*t.unit)
	for y := range dst.H {
		for x := range dst.W {
			var sum [3]float64
			n := 0
			for s := range 4 {
				sx, sy := 2*x+s%2, 2*y+s/2
				at := hits[sy*w+sx]
				var c [3]float64
				fx, fy := (float64(sx)-0.5)/2, (float64(sy)-0.5)/2
				switch within := fx > x0 && fx < x1 && fy > y0 && fy < y1; {
				case at.set && !(within && at.z > deep):
					c = t.sample(float64(at.u), float64(at.v))
				case within:
					c = mouth(back.Apply(fx, fy))
				default:
					continue
				}
				n++
				for k := range 3 {
					sum[k] += c[k]
				}
			}
			if n == 4 {
				for k := range 3 {
					dst.Pix[3*(y*dst.W+x)+k] = byte(min(max(sum[k]/4+0.5, 0), 255))
				}
			}
		}
	}
	zoom := math.Sqrt(math.Abs(l.View.A*l.View.E - l.View.B*l.View.D))
	points = points[:face.MeshPoints]
	for i := range points {
		points[i].Z *= zoom
	}
	return points
}

// inside returns what is behind the lips, by place in the picture after the head has
// turned: two rows of teeth, the tongue, the throat.
func (t *Head) inside(l Look) func(x, y float64) [3]float64 {
	r := turned(l, 1)
	det := r[0][0]*r[1][1] - r[0][1]*r[1][0]
	up, lo := t.rest[13], t.rest[14]
	depth := (up.Z+lo.Z)/2 + 0.1*t.unit - t.centre.Z
	mid := (t.rest[61].X + t.rest[291].X) / 2
	seam := up.Y + 0.4*(lo.Y-up.Y)
	scale := func(c [3]float64, k float64) [3]float64 { return [3]float64{c[0] * k, c[1] * k, c[2] * k} }
	over := func(a, b [3]float64, k float64) [3]float64 {
		for i := range a {
			a[i] += (b[i] - a[i]) * k
		}
		return a
	}
	step := func(lo, hi, x float64) float64 {
		f := min(max((x-lo)/(hi-lo), 0), 1)
		return f * f * (3 - 2*f)
	}
	// teeth is a row whose edge is at 0 and whose roots are at v < 0.
	teeth := func(c [3]float64, u, v, wide float64) [3]float64 {
		k := (1 - step(-0.006, 0.006, v)) * (1 - step(0.30, 0.36, math.Abs(u))) * step(-0.16, -0.10, v)
		gap := math.Abs(math.Remainder(u+wide/2, wide))
		light := (0.82 + 0.18*step(0, 0.012, gap)) * (1 - 2.2*u*u) * (0.8 + 0.2*step(-0.1, -0.03, v))
		return over(c, scale(t.tooth, light), k)
	}
	return func(x, y float64) [3]float64 {
		dx, dy := x-t.centre.X-r[0][2]*depth, y-t.centre.Y-r[1][2]*depth
		px := (dx*r[1][1] - dy*r[0][1]) / det
		py := (dy*r[0][0] - dx*r[1][0]) / det
		u, v := (px+t.centre.X-mid)/t.unit, (py+t.centre.Y-seam)/t.unit
		c := scale(t.lip, 0.22)
		drop := 0.88 * l.Gap
		if d := math.Hypot(u/0.2, (v-drop+0.02)/(0.05+0.35*drop)); d < 1 {
			c = over(c, scale(t.lip, 0.55+0.3*(1-d)), step(1, 0.8, d))
		}
		c = teeth(c, u, drop-0.045-v, 0.07) // the lower teeth move with the jaw
		return teeth(c, u, v-0.035+0.25*u*u, 0.1)
	}
}

// Talk returns the look of frame i, at 25 frames a second, of somebody who speaks with
// large movements. The mouth opens as far as widest, and closes at times.
func Talk(i int, widest float64) Look {
	s := float64(i) / 25
	syllable := 0.5 - 0.5*math.Cos(2*math.Pi*3.1*s)
	phrase := 0.55 + 0.45*math.Sin(2*math.Pi*0.45*s)
	return Look{
		Gap:    widest * math.Pow(syllable, 0.8) * phrase,
		Pucker: 0.5 + 0.5*math.Sin(2*math.Pi*1.3*s),
		Yaw:    0.15 * math.Sin(2*math.Pi*0.37*s),
		Pitch:  0.08 * math.Sin(2*math.Pi*0.53*s),
	}
}

// View returns the view of frame i, at 25 frames a second, on a head that moves: its face
// is wide pixels wide and in the middle of a frame of w by h pixels.
func (t *Head) View(i, w, h int, wide float64) frame.Affine {
	s := float64(i) / 25
	sin, cos := math.Sincos(0.06 * math.Sin(2*math.Pi*0.31*s))
	zoom := wide / (t.rest[454].X - t.rest[234].X) * (1 + 0.04*math.Sin(2*math.Pi*0.23*s))
	a := frame.Affine{A: zoom * cos, B: -zoom * sin, D: zoom * sin, E: zoom * cos}
	x, y := a.Apply(t.centre.X, t.centre.Y)
	a.C = float64(w)/2 - x + 0.06*wide*math.Sin(2*math.Pi*0.41*s)
	a.F = float64(h)/2 - y + 0.04*wide*math.Sin(2*math.Pi*0.67*s)
	return a
}
