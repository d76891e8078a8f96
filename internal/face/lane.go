package face

import (
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

// lane follows one of the chosen people.
type lane struct {
	choice Choice
	chosen **person // in people.chosen; nil before somebody was chosen in this shot
	look   *look    // of the person who was chosen last; nil if only one face is followed
	track  int      // of the last entry with a face; -1 before the first
	broken bool     // the next observation begins a new track
	queue  []sighting
	past   []sighting // the last reach entries returned

	lastFace *Face
	lastObs  *observation // the only one that lastFace was smoothed from, or nil
}

// sighting is what a lane has seen in one frame.
type sighting struct {
	obs   *observation // of the chosen person; nil if they are not seen
	shot  int
	track int
}

// open reports whether the lane looks for a person.
func (l *lane) open() bool { return *l.chosen == nil || (*l.chosen).gone > maxGap }

// choose gives people to the lanes that look for one. fresh are the people who are new
// in this frame.
func (t *Tracker) choose(f *frame.Frame, fresh []*person) {
	w, h := f.Size()
	var open []*lane
	for _, l := range t.lanes {
		if l.open() {
			open = append(open, l)
		}
	}
	taken := func(q *person) bool { return slices.Contains(t.people.chosen, q) }
	if len(open) == 0 {
		t.remember()
		return
	}
	// In the first frame of a shot with a candidate, people.next has searched for
	// everybody. Later, people who were visible at the same time as a person who has
	// left are others: only somebody who appeared later can be the same person.
	first := slices.DeleteFunc(t.people.followed(), taken)
	later := slices.DeleteFunc(slices.Clone(fresh), taken)
	few := t.people.several && len(first) < len(open)
	for _, l := range open {
		seen := later
		if *l.chosen == nil {
			seen = first
		}
		seen = slices.DeleteFunc(slices.Clone(seen), taken)
		if l.look != nil && (few || *l.chosen != nil) {
			// Who speaks here was seen before, and not all are visible.
			seen = slices.DeleteFunc(seen, func(q *person) bool { return q.look == nil || l.nearest(t.lanes, q) != l })
		}
		var q *person
		switch {
		case len(seen) == 0:
			continue
		case *l.chosen != nil:
			q = l.choice.again(seen, w, h)
			l.broken = true
		case t.people.several && l.choice.n > 0 && !(few && l.look != nil):
			// Numbers count those as well who are taken.
			if q = l.choice.pick(t.people.followed(), w, h); q == nil || taken(q) {
				continue
			}
		case few && l.look == nil:
			if q = l.choice.alone(seen, w, h); q == nil {
				continue
			}
		case few:
			q = l.choice.again(seen, w, h)
		default:
			q = l.choice.pick(seen, w, h)
		}
		*l.chosen = q
	}
	t.remember()
}

// remember notes the looks of the chosen people.
func (t *Tracker) remember() {
	for _, l := range t.lanes {
		if q := *l.chosen; q != nil && q.look != nil {
			l.look = q.look
		}
	}
}

// nearest returns the open lane whose person looked the most like q.
func (l *lane) nearest(lanes []*lane, q *person) *lane {
	best := l
	for _, o := range lanes {
		if o.look != nil && o.open() && o.look.distance(q.look) < best.look.distance(q.look) {
			best = o
		}
	}
	return best
}

// again chooses among newcomers. A number that is too large for them is reduced.
func (c Choice) again(fresh []*person, w, h int) *person {
	fresh = candidates(fresh)
	c.n = min(c.n, len(fresh))
	return c.pick(fresh, w, h)
}

// alone chooses among fewer people than speak: the one on the left of the frame is not
// the one on the right, even if nobody else is visible.
func (c Choice) alone(seen []*person, w, h int) *person {
	q := c.pick(seen, w, h)
	if q == nil {
		return nil
	}
	x, _ := q.obs.centre()
	if c.rule == "left" && x > 0.6*float64(w) || c.rule == "right" && x < 0.4*float64(w) {
		return nil
	}
	return q
}

// append adds a sighting to the queue and sets its track. If it ends a gap that is short
// enough, append bridges the gap.
func (l *lane) append(e sighting) {
	l.queue = append(l.queue, e)
	last := len(l.queue) - 1
	if e.obs == nil {
		return
	}
	first := last // of the gap
	for first > 0 && l.queue[first-1].obs == nil && l.queue[first-1].shot == e.shot {
		first--
	}
	gap := last - first
	if !l.broken && gap > 0 {
		if gap <= maxGap && first > 0 && l.queue[first-1].shot == e.shot {
			a := l.queue[first-1].obs
			for i := first; i < last; i++ {
				l.queue[i].obs = between(a, e.obs, float64(i-first+1)/float64(gap+1))
				l.queue[i].track = l.track
			}
		} else {
			l.broken = true
		}
	}
	if l.broken {
		l.track++
		l.broken = false
	}
	l.queue[last].track = l.track
}

// between interpolates two observations; share is that of b.
func between(a, b *observation, share float64) *observation {
	p := make([]Point, len(a.points))
	for i, u := range a.points {
		v := b.points[i]
		p[i] = Point{u.X + share*(v.X-u.X), u.Y + share*(v.Y-u.Y), u.Z + share*(v.Z-u.Z)}
	}
	o := newObservation(p, math.Min(a.score, b.score))
	o.bridged = true
	return o
}

// next takes the first sighting out of the queue and returns its face, or nil if that is
// not usable in a frame of w x h pixels.
func (l *lane) next(w, h int) (found *Face) {
	e := l.queue[0]
	if e.obs != nil {
		if face := l.smoothed(e); face.usable(w, h) {
			found = face
		}
	}
	l.past = append(l.past, e)
	l.past = slices.Delete(l.past, 0, max(len(l.past)-reach, 0))
	l.queue = slices.Delete(l.queue, 0, 1)
	return found
}

// smoothed returns the Face of e, the first in the queue, from the observations
// around it that belong to its track.
func (l *lane) smoothed(e sighting) *Face {
	at := len(l.past)
	around := slices.Concat(l.past, l.queue[:min(1+reach, len(l.queue))])
	belongs := func(o sighting) bool { return o.obs != nil && o.track == e.track }
	first, last := at, at
	for first > 0 && belongs(around[first-1]) {
		first--
	}
	for last+1 < len(around) && belongs(around[last+1]) {
		last++
	}
	var window []*observation
	still := true
	for _, o := range around[first : last+1] {
		window = append(window, o.obs)
		still = still && o.obs == e.obs
	}
	if still && l.lastObs == e.obs && l.lastFace.Track == e.track {
		return l.lastFace
	}
	f := &Face{Track: e.track, Score: e.obs.score, Bridged: e.obs.bridged}
	f.Points = smooth(window, at-first)
	f.Yaw = yaw(f.Points)
	f.Align = TemplateAffine(AlignPoints468(f.Points))
	l.lastFace, l.lastObs = f, e.obs
	if !still {
		l.lastObs = nil
	}
	return f
}
