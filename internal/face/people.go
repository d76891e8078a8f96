package face

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

const (
	detectEvery = 10               // frames between searches for more faces while following one
	searchEvery = 5                // frames between searches for small or turned faces while following nobody, one level each
	searchRound = 10 * searchEvery // frames without anybody after which each level has been searched in each turn
	fineEvery   = 40               // frames between searches for small newcomers while following somebody, one level each
	maxKnown    = 24               // most people remembered in one shot
	sameBox     = 0.3              // least overlap of the boxes of one face

	// sureScore is the least score of a certain detection. Real faces can score less,
	// but so do collars and patterns, which the mesh does not always reject. On some
	// level a real face scores more.
	sureScore = 0.7

	maxTurn = math.Pi / 4 // most that a face turns in the image between two frames
)

// MaxPeople is the largest number of people followed at once.
const MaxPeople = 6

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

// angle returns how far the eyes are turned from level, clockwise.
func (o *observation) angle() float64 { return ROIFromPoints(o.points).Rotation }

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
	doubts int          // checks in a row that did not confirm the face
	gone   int          // frames since obs; 0 while followed
	jumped bool         // has reappeared in this frame, farther away than a face can move
	look   *look        // nil if only one face is followed
	now    *look        // in the last frame
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
	chosen   []*person // one for each face to follow, nil if it is not chosen yet; never forgotten
	several  bool      // more than one face is followed, so that looks count
	since    int       // frames since the detector ran
	searched int       // frames without anybody, in a row
	fine     int       // frames since a finer level ran while somebody was followed
	level    int       // the last finer level that ran then
}

func (p *people) reset() {
	clear(p.chosen) // the lanes refer to it
	*p = people{detector: p.detector, mesh: p.mesh, complete: p.complete, chosen: p.chosen, several: p.several}
}

// open reports whether somebody has to be chosen, because nobody has been chosen yet or
// a chosen person has left.
func (p *people) open() bool {
	return slices.ContainsFunc(p.chosen, func(q *person) bool { return q == nil || q.gone > maxGap })
}

// followed returns the people seen in this frame.
func (p *people) followed() []*person {
	return slices.DeleteFunc(slices.Clone(p.all), func(q *person) bool { return q.gone > 0 })
}

// next observes one frame. It returns the people who are new in it.
func (p *people) next(ctx context.Context, f frame.Source) (fresh []*person, err error) {
	p.thin()
	lost := false
	check := p.since+1 >= detectEvery
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
		if check {
			gone, err := p.recheck(ctx, f, q)
			if err != nil {
				return nil, err
			}
			lost = lost || gone
		}
	}
	p.recognise(f)
	p.merge()
	p.since++
	p.fine++
	alone := len(p.followed()) == 0
	if !alone && !lost && p.since < detectEvery {
		return nil, nil
	}
	p.since = 0
	var done [Levels]bool
	for i, at := range p.passes(alone) {
		if i > 0 && alone && len(p.followed()) > 0 {
			break // the earlier passes were enough
		}
		if fresh, err = p.search(ctx, f, at, fresh); err != nil {
			return nil, err
		}
		done[at.level] = done[at.level] || at.turn == 0
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
		if fresh, err = p.search(ctx, f, pass{level, 0}, fresh); err != nil {
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

// pass is one pass of the detector over the frame.
type pass struct {
	level int
	turn  float64
}

// turns are the turns of the frame in which faces are searched that are not upright, the
// one on its head first.
var turns = [3]float64{math.Pi, math.Pi / 2, -math.Pi / 2}

// passes returns the passes to search with now. alone means that nobody is followed.
func (p *people) passes(alone bool) []pass {
	if !alone {
		p.searched = 0
		if p.complete && (p.fine >= fineEvery || p.open() && p.fine >= detectEvery) {
			p.fine = 0
			p.level = 1 + p.level%(Levels-1)
			return []pass{{}, {level: p.level}}
		}
		return []pass{{}}
	}
	p.searched++
	round := p.searched / searchEvery
	switch {
	case p.searched == 1: // a new shot, or a face just lost: search on all levels
		turned := 2 // levels that are searched in other turns as well
		if len(p.all) == 0 {
			turned = Levels
		}
		all := []pass{{level: 0}, {level: 1}, {level: 2}, {level: 3}}
		for level := range turned {
			for _, turn := range turns {
				all = append(all, pass{level, turn})
			}
		}
		return all
	case p.searched%searchEvery == 0:
		return []pass{{level: 1 + round%(Levels-1)}}
	case p.searched%searchEvery == 2:
		fine := pass{1 + round%(Levels-1), turns[round/(Levels-1)%len(turns)]}
		return []pass{{}, {0, turns[0]}, {0, turns[1]}, {0, turns[2]}, fine}
	}
	return []pass{{}}
}

// search runs one pass of the detector and appends new people to fresh.
func (p *people) search(ctx context.Context, f frame.Source, at pass, fresh []*person) ([]*person, error) {
	found, err := p.detector.Level(ctx, f, at.level, at.turn)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		if p.known(d) || at.level > 0 && d.Score < sureScore && len(p.followed()) > 0 {
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
	if len(seen) <= MaxPeople {
		return
	}
	rank := func(q *person) float64 {
		if slices.Contains(p.chosen, q) {
			return math.Inf(1)
		}
		return q.obs.size()
	}
	slices.SortStableFunc(seen, func(a, b *person) int { return cmp.Compare(rank(b), rank(a)) })
	for _, q := range seen[MaxPeople:] {
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
	limit := MaxPeople
	if p.complete && p.open() {
		limit = maxKnown
	}
	if len(seen) >= limit {
		return nil, nil
	}
	o, d, err := p.fit(ctx, f, d)
	if o == nil || err != nil {
		return nil, err
	}
	if slices.ContainsFunc(seen, func(q *person) bool { return sameFace(q.obs, o) }) {
		return nil, nil // the mesh has moved to a face that is already followed
	}
	var l *look
	if p.several {
		l = newLook(f, o.points)
	}
	if q := p.returned(o, l); q != nil {
		q.jumped = !plausible(q.obs, o)
		q.obs, q.gone, q.doubts, q.score = o, 0, 0, max(q.score, d.Score)
		return nil, nil
	}
	q := &person{obs: o, score: d.Score, look: l}
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
		if slices.Contains(p.chosen, q) {
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
	turned := math.Remainder(a.angle()-b.angle(), 2*math.Pi)
	return ratio > 0.6 && ratio < 1.7 && a.apart(b) < 0.6*a.size() && math.Abs(turned) < maxTurn
}

// merge drops one of two people whose meshes have ended up on one face: the one who looks
// less like it, or else the later one.
func (p *people) merge() {
	for i, a := range p.all {
		for _, b := range p.all[i+1:] {
			if a.gone > 0 || b.gone > 0 || !sameFace(a.obs, b.obs) {
				continue
			}
			if likelier(a, b) {
				a.gone = 1
			} else {
				b.gone = 1
			}
		}
	}
}

// sameFace reports whether two meshes lie on the same face.
func sameFace(a, b *observation) bool {
	return a.apart(b) < 0.25*min(a.size(), b.size())
}

// returned returns the lost person who is close enough to o and about as large: of
// several the one who looks the most like l, or the nearest if l is nil. It returns nil
// if there is none.
func (p *people) returned(o *observation, l *look) *person {
	var best *person
	least := math.Inf(1)
	for _, q := range p.all {
		ratio, d := q.obs.size()/o.size(), o.apart(q.obs)
		if q.gone == 0 || d >= 1.5*o.size() || ratio <= 0.5 || ratio >= 2 {
			continue
		}
		if l != nil && q.look != nil {
			d = q.look.distance(l)
		}
		if d < least {
			best, least = q, d
		}
	}
	return best
}
