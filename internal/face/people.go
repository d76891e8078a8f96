package face

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

const (
	detectEvery = 10  // frames between searches for more faces while following one
	searchEvery = 5   // frames between searches for small faces while following nobody, one level each
	fineEvery   = 40  // frames between searches for small newcomers while following somebody, one level each
	maxPeople   = 6   // most people followed at once
	maxKnown    = 24  // most people remembered in one shot
	sameBox     = 0.3 // least overlap of the boxes of one face

	// sureScore is the least score of a certain detection. Real faces can score less,
	// but so do collars and patterns, which the mesh does not always reject. On some
	// level a real face scores more.
	sureScore = 0.7
)

// observation is a face as the networks see it in one frame. Frames with the same content
// share it, and it never changes.
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

// apart returns the distance of the centres.
func (o *observation) apart(b *observation) float64 {
	x, y := o.centre()
	bx, by := b.centre()
	return math.Hypot(x-bx, y-by)
}

// matches reports whether a detection is this face.
func (o *observation) matches(d Detection) bool {
	box := Detection{Points: [8][2]float64{{o.x0, o.y0}, {o.x1, o.y1}}}
	if overlap(box, d) > sameBox {
		return true
	}
	// In some poses the detector's box is smaller than the mesh. It is enough if
	// its centre lies in the middle half of the mesh.
	cx, cy := o.centre()
	p, q := d.Points[0], d.Points[1]
	return math.Abs((p[0]+q[0])/2-cx) < (o.x1-o.x0)/4 && math.Abs((p[1]+q[1])/2-cy) < (o.y1-o.y0)/4
}

// person is somebody in the current shot. People are identified by position: a
// face that is lost and found again near the same place is the same person.
type person struct {
	obs    *observation // the last one
	before *observation // the one in the frame before obs, or nil
	score  float64      // of the best detection
	gone   int          // frames since obs; 0 while followed
	jumped bool         // has reappeared in this frame, farther away than a face can move
}

// expected returns where to look for the face in the next frame. The mesh works
// best if its square is placed as in training, so expected follows the motion of
// the face. It ignores small shifts, which are noise.
func (q *person) expected() ROI {
	r := ROIFromPoints(q.obs.points)
	if q.before == nil {
		return r
	}
	b := ROIFromPoints(q.before.points)
	dx, dy := r.CX-b.CX, r.CY-b.CY
	g := Gain(math.Hypot(dx, dy), 0.01*r.Size)
	r.CX += g * dx
	r.CY += g * dy
	return r
}

// people follows all faces in the shot.
type people struct {
	detector *Detector
	mesh     *Mesh
	complete bool      // the choice considers all faces, however small, not just the largest
	all      []*person // followed or lost, in the order of their appearance
	chosen   *person   // never forgotten
	since    int       // frames since the detector ran
	searched int       // frames without anybody, in a row
	fine     int       // frames since a finer level ran while somebody was followed
	level    int       // the last finer level that ran then
}

func (p *people) reset() {
	*p = people{detector: p.detector, mesh: p.mesh, complete: p.complete}
}

// open reports whether somebody has to be chosen, because nobody has been chosen yet or
// the chosen person has left.
func (p *people) open() bool { return p.chosen == nil || p.chosen.gone > maxGap }

// followed returns the people seen in this frame.
func (p *people) followed() []*person {
	return slices.DeleteFunc(slices.Clone(p.all), func(q *person) bool { return q.gone > 0 })
}

// next observes one frame. It returns the people who are new in it.
func (p *people) next(ctx context.Context, f frame.Source) (fresh []*person, err error) {
	p.thin()
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
		// A mesh that loses the face collapses or jumps, which the presence score
		// alone does not always show.
		if o == nil || !plausible(q.obs, o) {
			q.gone, q.before, lost = 1, nil, true
			continue
		}
		q.before, q.obs = q.obs, o
	}
	p.merge()
	p.since++
	p.fine++
	alone := len(p.followed()) == 0
	if !alone && !lost && p.since < detectEvery {
		return nil, nil
	}
	p.since = 0
	var done [Levels]bool
	for _, level := range p.levels(alone) {
		if level > 0 && alone && len(p.followed()) > 0 {
			break // the coarser levels were enough
		}
		if fresh, err = p.search(ctx, f, level, fresh); err != nil {
			return nil, err
		}
		done[level] = true
	}
	if !p.open() || len(fresh) == 0 || !p.complete && !p.doubtful() {
		return fresh, nil
	}
	// Somebody is about to be chosen: either by position, for which all faces must be
	// known, or among detections that may not all be faces.
	for level, ran := range done {
		if ran {
			continue
		}
		if fresh, err = p.search(ctx, f, level, fresh); err != nil {
			return nil, err
		}
	}
	p.fine = 0
	return fresh, nil
}

// doubtful reports whether several people are followed and one of them may not be
// a face.
func (p *people) doubtful() bool {
	seen := p.followed()
	return len(seen) > 1 && slices.ContainsFunc(seen, func(q *person) bool { return q.score < sureScore })
}

// levels returns the levels to search now, from coarse to fine; alone means that
// nobody is followed.
func (p *people) levels(alone bool) []int {
	if !alone {
		p.searched = 0
		if p.complete && (p.fine >= fineEvery || p.open() && p.fine >= detectEvery) {
			p.fine = 0
			p.level = 1 + p.level%(Levels-1)
			return []int{0, p.level}
		}
		return []int{0}
	}
	p.searched++
	switch {
	case p.searched == 1: // a new shot, or a face just lost: search on all levels
		return []int{0, 1, 2, 3}
	case p.searched%searchEvery == 0:
		return []int{1 + p.searched/searchEvery%(Levels-1)}
	}
	return []int{0}
}

// search runs one level of the detector and appends new people to fresh.
func (p *people) search(ctx context.Context, f frame.Source, level int, fresh []*person) ([]*person, error) {
	found, err := p.detector.Level(ctx, f, level)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		if p.known(d) || level > 0 && d.Score < sureScore && len(p.followed()) > 0 {
			continue // the finer levels detect many things besides faces
		}
		q, err := p.meet(ctx, f, d)
		if err != nil {
			return nil, err
		}
		if q != nil {
			fresh = append(fresh, q)
		}
	}
	return fresh, nil
}

// thin stops following the smallest faces if there are more than can be followed, as after
// a choice among all faces. It remembers them, so that they do not count as new.
func (p *people) thin() {
	seen := p.followed()
	if len(seen) <= maxPeople {
		return
	}
	rank := func(q *person) float64 {
		if q == p.chosen {
			return math.Inf(1)
		}
		return q.obs.size()
	}
	slices.SortStableFunc(seen, func(a, b *person) int { return cmp.Compare(rank(b), rank(a)) })
	for _, q := range seen[maxPeople:] {
		q.gone, q.before = 1, nil
	}
}

// known reports whether a detection is somebody who is already followed.
func (p *people) known(d Detection) bool {
	i := slices.IndexFunc(p.all, func(q *person) bool { return q.gone == 0 && q.obs.matches(d) })
	if i >= 0 {
		p.all[i].score = max(p.all[i].score, d.Score)
	}
	return i >= 0
}

// meet runs the mesh on a detection. It returns the person if the face is new, and nil if
// it is not a face, already followed, or that of a lost person who is back.
func (p *people) meet(ctx context.Context, f frame.Source, d Detection) (*person, error) {
	seen := p.followed()
	limit := maxPeople
	if p.complete && p.open() {
		limit = maxKnown
	}
	if len(seen) >= limit {
		return nil, nil
	}
	o, err := p.look(ctx, f, ROIFromDetection(d))
	if o == nil || err != nil {
		return nil, err
	}
	// The square from the landmarks differs a little from the detector's. A second
	// run makes the first frame agree with the following ones.
	again, err := p.look(ctx, f, ROIFromPoints(o.points))
	if err != nil {
		return nil, err
	}
	if again != nil {
		o = again
	}
	if slices.ContainsFunc(seen, func(q *person) bool { return sameFace(q.obs, o) }) {
		return nil, nil // the mesh has moved to a face that is already followed
	}
	if q := p.returned(o); q != nil {
		q.jumped = !plausible(q.obs, o)
		q.obs, q.gone, q.score = o, 0, max(q.score, d.Score)
		return nil, nil
	}
	q := &person{obs: o, score: d.Score}
	p.all = append(p.all, q)
	p.forget()
	return q, nil
}

// forget drops the person who has been lost for the longest time if too many people are
// remembered, so that a long shot does not fill the memory.
func (p *people) forget() {
	if len(p.all) <= maxKnown {
		return
	}
	lost := func(q *person) int {
		if q == p.chosen {
			return 0
		}
		return q.gone
	}
	longest := slices.MaxFunc(p.all, func(a, b *person) int { return cmp.Compare(lost(a), lost(b)) })
	if lost(longest) > 0 {
		p.all = slices.DeleteFunc(p.all, func(q *person) bool { return q == longest })
	}
}

// look runs the mesh. It returns nil if it finds no face.
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

// plausible reports whether a face can have moved from a to b between two frames.
func plausible(a, b *observation) bool {
	ratio := b.size() / a.size()
	return ratio > 0.6 && ratio < 1.7 && a.apart(b) < 0.6*a.size()
}

// merge drops the later of two people whose meshes have ended up on one face.
func (p *people) merge() {
	for i, a := range p.all {
		for _, b := range p.all[i+1:] {
			if a.gone == 0 && b.gone == 0 && sameFace(a.obs, b.obs) {
				b.gone = 1
			}
		}
	}
}

// sameFace reports whether two meshes lie on the same face.
func sameFace(a, b *observation) bool {
	return a.apart(b) < 0.25*min(a.size(), b.size())
}

// returned returns the lost person nearest to o who is close enough and about as large,
// or nil.
func (p *people) returned(o *observation) *person {
	var best *person
	nearest := 1.5 * o.size()
	for _, q := range p.all {
		ratio := q.obs.size() / o.size()
		if d := o.apart(q.obs); q.gone > 0 && d < nearest && ratio > 0.5 && ratio < 2 {
			best, nearest = q, d
		}
	}
	return best
}
