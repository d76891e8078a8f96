package preview

import (
	"math"

	"github.com/lipstream/lipstream/internal/face"
)

// vec is a point or displacement in the plane.
type vec struct{ x, y float64 }

func (a vec) add(b vec) vec           { return vec{a.x + b.x, a.y + b.y} }
func (a vec) sub(b vec) vec           { return vec{a.x - b.x, a.y - b.y} }
func (a vec) mul(k float64) vec       { return vec{a.x * k, a.y * k} }
func lerp(a, b vec, t float64) vec    { return a.add(b.sub(a).mul(t)) }
func clamp(x, lo, hi float64) float64 { return min(max(x, lo), hi) }

// smoothstep rises from 0 at lo to 1 at hi.
func smoothstep(lo, hi, x float64) float64 {
	switch t := (x - lo) * (1 / (hi - lo)); {
	case t <= 0:
		return 0
	case t < 1:
		return t * t * (3 - 2*t)
	}
	return 1
}

// pose maps between frame pixels and face coordinates: origin at the base of
// the nose, u along the eye line, v down the face, one unit the distance between
// the outer eye corners. Turning the head foreshortens the axes instead of
// changing the coordinates, so a shape learned in one pose holds in another.
type pose struct {
	origin vec
	u, v   vec        // the axes in pixels
	away   vec        // one unit away from the viewer of a frontal face, in pixels
	normal [3]float64 // the same direction in space, of length 1
	depth  float64    // of the origin, in pixels
	unit   float64    // pixels of one unit, without foreshortening
	det    float64
}

// noseBase lists points that do not move with speech and are about as far from
// the viewer as the lips are.
var noseBase = []int{2, 97, 326, 98, 327}

func newPose(p []face.Point) (pose, bool) {
	l, r, top, chin := p[33], p[263], p[10], p[152]
	dist := func(a, b face.Point) float64 {
		return math.Sqrt((a.X-b.X)*(a.X-b.X) + (a.Y-b.Y)*(a.Y-b.Y) + (a.Z-b.Z)*(a.Z-b.Z))
	}
	unit, height := dist(l, r), dist(top, chin)
	if unit < 1 || height < 1 {
		return pose{}, false
	}
	ps := pose{
		u:    vec{r.X - l.X, r.Y - l.Y},
		v:    vec{chin.X - top.X, chin.Y - top.Y}.mul(unit / height),
		unit: unit,
	}
	for _, i := range noseBase {
		ps.origin = ps.origin.add(vec{p[i].X, p[i].Y}.mul(1 / float64(len(noseBase))))
		ps.depth += p[i].Z / float64(len(noseBase))
	}
	uz, vz := r.Z-l.Z, (chin.Z-top.Z)*unit/height
	n := [3]float64{ps.u.y*vz - uz*ps.v.y, uz*ps.v.x - ps.u.x*vz, ps.u.x*ps.v.y - ps.u.y*ps.v.x}
	if length := math.Sqrt(n[0]*n[0] + n[1]*n[1] + n[2]*n[2]); length > 0 {
		ps.normal = [3]float64{n[0] / length, n[1] / length, n[2] / length}
	}
	ps.away = vec{ps.normal[0], ps.normal[1]}.mul(unit)
	ps.det = ps.u.x*ps.v.y - ps.u.y*ps.v.x
	// A nearly flat basis means a face seen from the side or from below,
	// where displacements can no longer be distinguished.
	return ps, ps.det > 0.2*unit*unit
}

// point returns the face coordinates of a point of the mesh. What lies deeper than
// the base of the nose moves across the face as the head turns; its depth takes that
// out.
func (ps *pose) point(p face.Point) vec {
	d := vec{p.X, p.Y}.sub(ps.origin)
	z := (d.x*ps.normal[0] + d.y*ps.normal[1] + (p.Z-ps.depth)*ps.normal[2]) / ps.unit
	return ps.toFace(vec{p.X, p.Y}.sub(ps.away.mul(z)))
}

// shift returns a displacement in face coordinates as one in pixels.
func (ps *pose) shift(d vec) vec { return ps.u.mul(d.x).add(ps.v.mul(d.y)) }

func (ps *pose) toFace(p vec) vec {
	d := p.sub(ps.origin)
	return vec{(d.x*ps.v.y - d.y*ps.v.x) / ps.det, (d.y*ps.u.x - d.x*ps.u.y) / ps.det}
}

func (ps *pose) toPixels(f vec) vec { return ps.origin.add(ps.shift(f)) }

// frontal returns the cosine of the head's turn to the side: 1 seen from the front.
func (ps *pose) frontal() float64 { return math.Hypot(ps.u.x, ps.u.y) / ps.unit }
