package face

import (
	"context"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

const (
	detectEvery = 10 // frames between looks for further faces while following one
	searchEvery = 5  // frames between looks for small faces while there is nobody, a level each
	maxPeople   = 6  // followed at once
	maxKnown    = 24 // remembered in one shot
	sameBox     = 0.3
)

// observation is a face as the networks see it in one frame. It is shared by
// frames that repeat one picture, and never changed.
type observation struct {
	points         []Point
	score          float64
	x0, y0, x1, y1 float64 // bounding box of the points
	bridged        bool
}

func newObservation(p []Point, score float64) *observation {
	o := &observation{points: p, score: score}
	o.x0, o.y0, o.x1, o.y1 = bounds(p)
	return o
}

func (o *observation) centre() (x, y float64) { return (o.x0 + o.x1) / 2, (o.y0 + o.y1) / 2 }
func (o *observation) size() float64          { return math.Sqrt((o.x1 - o.x0) * (o.y1 - o.y0)) }

// matches says whether a detection is (nearly) this face.
func (o *observation) matches(d Detection) bool {
	box := Detection{X0: o.x0, Y0: o.y0, X1: o.x1, Y1: o.y1}
	if overlap(box, d) > sameBox {
		return true
	}
	// The detector's box is smaller than the mesh for some poses: the
	// centre within the other's middle half is enough.
	cx, cy := o.centre()
	return math.Abs((d.X0+d.X1)/2-cx) < (o.x1-o.x0)/4 && math.Abs((d.Y0+d.Y1)/2-cy) < (o.y1-o.y0)/4
}

// person is somebody in the current shot. The identity is one of place: a face
// that is lost and found near where it was is the same person.
type person struct {
	obs    *observation // the last
	before *observation // of the frame before that; nil when not seen in it
	gone   int          // frames since obs; 0 while followed
	jumped bool         // is back in this frame where no motion can have brought it
}

// expected is where to look for the face in the next frame. The mesh is best
// when its square sits as it did in training, so that a moving face is met
// where it will be; small shifts are noise and not carried on.
func (q *person) expected() ROI {
	r := ROIFromPoints(q.obs.points)
	if q.before == nil {
		return r
	}
	b := ROIFromPoints(q.before.points)
	dx, dy := r.CX-b.CX, r.CY-b.CY
	g := gain(math.Hypot(dx, dy), 0.01*r.Size)
	r.CX += g * dx
	r.CY += g * dy
	return r
}

// people follows everybody in the shot.
type people struct {
	detector *Detector
	mesh     *Mesh
	all      []*person // followed or lost, in the order of their appearance
	chosen   *person   // never forgotten
	since    int       // frames since the detector ran
	searched int       // frames without anybody, in a row
}

func (p *people) reset() { *p = people{detector: p.detector, mesh: p.mesh} }

// followed are those seen in this frame.
func (p *people) followed() []*person {
	var seen []*person
	for _, q := range p.all {
		if q.gone == 0 {
			seen = append(seen, q)
		}
	}
	return seen
}

// next observes one frame. It gives the people who are new in it.
func (p *people) next(ctx context.Context, f frame.Source) (fresh []*person, err error) {
	lost := false
	for _, q := range p.all {
		q.jumped = false
		if q.gone > 0 {
			q.gone++
			continue
		}
		o, err := p.look(ctx, f, q.expected())
		if err != nil {
			return nil, err
		}
		// A mesh that slips off collapses or jumps; the presence score alone
		// does not always say so.
		if o == nil || !plausible(q.obs, o) {
			q.gone, q.before, lost = 1, nil, true
			continue
		}
		q.before, q.obs = q.obs, o
	}
	p.merge()
	p.since++
	seen := p.followed()
	if len(seen) > 0 && !lost && p.since < detectEvery {
		return nil, nil
	}
	p.since = 0
	first, last := 0, 0
	if len(seen) == 0 {
		p.searched++
		switch {
		case p.searched == 1:
			last = Levels - 1 // a new shot, or a face just lost: look for it everywhere
		case p.searched%searchEvery == 0:
			first = 1 + p.searched/searchEvery%(Levels-1)
			last = first
		}
	} else {
		p.searched = 0
	}
	for level := first; level <= last; level++ {
		if level > first && len(p.followed()) > 0 {
			break // the coarser levels were enough
		}
		found, err := p.detector.Level(ctx, f, level)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			q, err := p.meet(ctx, f, d)
			if err != nil {
				return nil, err
			}
			if q != nil {
				fresh = append(fresh, q)
			}
		}
	}
	return fresh, nil
}

// meet looks closer at a detection: nothing where it is somebody followed or
// no face after all, a lost person who is back, or somebody new, who is given.
func (p *people) meet(ctx context.Context, f frame.Source, d Detection) (*person, error) {
	seen := p.followed()
	if len(seen) >= maxPeople || slices.ContainsFunc(seen, func(q *person) bool { return q.obs.matches(d) }) {
		return nil, nil
	}
	o, err := p.look(ctx, f, ROIFromDetection(d))
	if o == nil || err != nil {
		return nil, err
	}
	// The square by the landmarks differs a little from the detector's; a
	// second look makes the first frame agree with those that follow.
	again, err := p.look(ctx, f, ROIFromPoints(o.points))
	if err != nil {
		return nil, err
	}
	if again != nil {
		o = again
	}
	if q := p.returned(o); q != nil {
		q.jumped = !plausible(q.obs, o)
		q.obs, q.gone = o, 0
		return nil, nil
	}
	q := &person{obs: o}
	p.all = append(p.all, q)
	p.forget()
	return q, nil
}

// forget drops who has been lost for longest when there are too many, so that
// a long shot does not fill the memory.
func (p *people) forget() {
	if len(p.all) <= maxKnown {
		return
	}
	worst := -1
	for i, q := range p.all {
		if q != p.chosen && q.gone > 0 && (worst < 0 || q.gone > p.all[worst].gone) {
			worst = i
		}
	}
	if worst >= 0 {
		p.all = slices.Delete(p.all, worst, worst+1)
	}
}

// look runs the mesh; nil when there is no face.
func (p *people) look(ctx context.Context, f frame.Source, roi ROI) (*observation, error) {
	if !(roi.Size >= 8) || math.IsInf(roi.Size, 0) {
		return nil, nil
	}
	points, score, err := p.mesh.Landmarks(ctx, f, roi)
	if err != nil {
		return nil, err
	}
	for _, q := range points {
		if math.IsNaN(q.X+q.Y+q.Z) || math.IsInf(q.X+q.Y+q.Z, 0) {
			return nil, nil
		}
	}
	if !(score >= minScore) {
		return nil, nil
	}
	return newObservation(points, score), nil
}

// plausible says whether a face can have gone from a to b between two frames.
func plausible(a, b *observation) bool {
	ratio := b.size() / a.size()
	ax, ay := a.centre()
	bx, by := b.centre()
	return ratio > 0.6 && ratio < 1.7 && math.Hypot(ax-bx, ay-by) < 0.6*a.size()
}

// merge drops the younger of two people whose meshes have slipped onto one
// face.
func (p *people) merge() {
	for i := 0; i < len(p.all); i++ {
		for j := i + 1; j < len(p.all); j++ {
			a, b := p.all[i], p.all[j]
			if a.gone > 0 || b.gone > 0 {
				continue
			}
			ax, ay := a.obs.centre()
			bx, by := b.obs.centre()
			if math.Hypot(ax-bx, ay-by) < 0.25*math.Min(a.obs.size(), b.obs.size()) {
				b.gone = 1
			}
		}
	}
}

// returned gives the lost person nearest to o, if it is near enough and of
// about the same size.
func (p *people) returned(o *observation) *person {
	var best *person
	x, y := o.centre()
	nearest := 1.5 * o.size()
	for _, q := range p.all {
		if q.gone == 0 {
			continue
		}
		qx, qy := q.obs.centre()
		ratio := q.obs.size() / o.size()
		if d := math.Hypot(x-qx, y-qy); d < nearest && ratio > 0.5 && ratio < 2 {
			best, nearest = q, d
		}
	}
	return best
}
