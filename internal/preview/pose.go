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
func clamp(x, lo, hi float64) float64 { return math.Min(math.Max(x, lo), hi) }

// smoothstep rises from 0 at lo to 1 at hi.
func smoothstep(lo, hi, x float64) float64 {
	t := clamp((x-lo)/(hi-lo), 0, 1)
	return t * t * (3 - 2*t)
}

// pose maps between frame pixels and face coordinates: origin between the
// eyes, u along the eye line, v down the face, one unit the distance between
// the outer eye corners. Turning the head foreshortens the axes instead of
// changing the coordinates, so a shape learned in one pose holds in another.
type pose struct {
	origin vec
	u, v   vec     // the axes in pixels
	unit   float64 // pixels of one unit, without foreshortening
	det    float64
}

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
		origin: vec{(l.X + r.X) / 2, (l.Y + r.Y) / 2},
		u:      vec{r.X - l.X, r.Y - l.Y},
		v:      vec{chin.X - top.X, chin.Y - top.Y}.mul(unit / height),
		unit:   unit,
	}
	ps.det = ps.u.x*ps.v.y - ps.u.y*ps.v.x
	// A nearly flat basis means a face seen from the side or from below,
	// where displacements can no longer be distinguished.
	return ps, ps.det > 0.2*unit*unit
}

func (ps *pose) toFace(p vec) vec {
	d := p.sub(ps.origin)
	return vec{(d.x*ps.v.y - d.y*ps.v.x) / ps.det, (d.y*ps.u.x - d.x*ps.u.y) / ps.det}
}

func (ps *pose) toPixels(f vec) vec { return ps.origin.add(ps.u.mul(f.x).add(ps.v.mul(f.y))) }

// frontal returns the cosine of the head's turn to the side: 1 seen from the front.
func (ps *pose) frontal() float64 { return math.Hypot(ps.u.x, ps.u.y) / ps.unit }
