package face

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/frame"
)

const (
	// LookAhead is the largest number of frames that a Tracker holds between
	// calls; a pool of frames must have more. Half of it is the reach of the
	// smoothing, the other half lets gaps within that reach be bridged first.
	LookAhead = reach + maxGap

	reach  = 3 // frames to either side that smoothing looks at
	maxGap = 3 // frames without the face that are bridged
)

// The limits of a usable face.
const (
	MinWidth   = 32                 // pixels between the ears
	MaxYaw     = 60 * math.Pi / 180 // beyond it one half of the mouth is hidden
	minVisible = 0.6                // least share of the points inside the frame
)

// Options configures a Tracker.
type Options struct {
	Choice  Choice // which face; the zero value is the largest
	Threads int    // of the networks, as in backend.Options
}

// Tracked is a frame that the tracker has finished.
type Tracked struct {
	Frame *frame.Frame
	Face  *Face // nil if the frame has no usable face
	// Cut is true on the first frame of a shot (except the very first) and
	// where the face's track begins.
	Cut bool
}

// entry is a frame that waits for later ones.
type entry struct {
	frame *frame.Frame
	obs   *observation // of the chosen person; nil if they are not seen
	shot  int
	cut   bool
	track int
}

// Tracker follows one face through the frames of a video, in order. It is not
// safe for concurrent use.
type Tracker struct {
	options Options
	people  people
	cuts    func(*frame.Frame) bool // reports whether a frame begins a new shot
	shot    int
	track   int  // of the last entry with a face; -1 before the first
	broken  bool // the next observation begins a new track
	repeats int  // how often the last frame has been repeated
	queue   []entry
	past    []entry // the last reach entries returned, without their frames

	lastFace *Face
	lastObs  *observation // the only one that lastFace was smoothed from, or nil
	emitted  int          // track of the last usable face returned
}

// NewTracker loads the networks.
func NewTracker(ctx context.Context, b backend.Backend, o Options) (*Tracker, error) {
	if o.Choice == (Choice{}) {
		o.Choice.rule = "largest"
	}
	d, err := NewDetector(ctx, b, o.Threads)
	if err != nil {
		return nil, err
	}
	m, err := NewMesh(ctx, b, o.Threads)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return trackWith(d, m, o), nil
}

// trackWith returns a tracker with networks that are already loaded.
func trackWith(d *Detector, m *Mesh, o Options) *Tracker {
	return &Tracker{
		people:  people{detector: d, mesh: m, complete: o.Choice.rule != "largest"},
		options: o, cuts: new(cutFinder).next, track: -1, emitted: -1, broken: true,
	}
}

// Close frees the networks. It drops the frames still held.
func (t *Tracker) Close() error {
	t.queue = nil
	return errors.Join(t.people.detector.Close(), t.people.mesh.Close())
}

// Push takes the next frame and returns those that are ready, in order: none at
// first, then one per call. The frame must not be changed until it is returned.
// After an error the tracker can only be closed.
func (t *Tracker) Push(ctx context.Context, f *frame.Frame) ([]Tracked, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := t.observe(ctx, f); err != nil {
		return nil, err
	}
	return t.emit(LookAhead), nil
}

// Flush returns the frames still held. The next Push begins a new video.
func (t *Tracker) Flush(ctx context.Context) ([]Tracked, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ready := t.emit(0)
	t.newShot()
	t.cuts = new(cutFinder).next
	return ready, nil
}

// newShot forgets everybody.
func (t *Tracker) newShot() {
	t.people.reset()
	t.broken = true
	t.shot++
}

// observe appends f to the queue.
func (t *Tracker) observe(ctx context.Context, f *frame.Frame) error {
	// The previous frame is still in the queue, so nobody has edited it yet.
	if n := len(t.queue); n > 0 && same(t.queue[n-1].frame, f) {
		// Without a face, a repeated frame is searched until every level of the
		// search has had its turn, because one may find what another missed.
		t.repeats++
		if e := t.queue[n-1]; e.obs != nil || t.repeats > Levels*searchEvery {
			e.frame, e.cut = f, false
			t.append(e)
			return nil
		}
	} else {
		t.repeats = 0
	}
	e := entry{frame: f, track: -1}
	if t.cuts(f) {
		t.newShot()
		e.cut = true
	}
	e.shot = t.shot
	fresh, err := t.people.next(ctx, f)
	if err != nil {
		return err
	}
	w, h := f.Size()
	switch {
	case t.people.chosen == nil:
		// This is decided once per shot, on the first frame with a candidate;
		// people.next has searched for everybody by then.
		t.people.chosen = t.options.Choice.pick(t.people.followed(), w, h)
	case t.people.chosen.gone > maxGap && len(fresh) > 0:
		// The chosen person left. People who were visible at the same time are
		// others; only somebody who appeared later can be the same person.
		t.people.chosen = t.options.again(fresh, w, h)
		t.broken = true
	}
	if t.people.chosen != nil && t.people.chosen.gone == 0 {
		t.broken = t.broken || t.people.chosen.jumped
		e.obs = t.people.chosen.obs
	}
	t.append(e)
	return nil
}

// again chooses among newcomers. A number that is too large for them is reduced.
func (o Options) again(fresh []*person, w, h int) *person {
	c := o.Choice
	fresh = candidates(fresh)
	c.n = min(c.n, len(fresh))
	return c.pick(fresh, w, h)
}

// append adds an entry to the queue and sets its track. If the entry ends a gap
// that is short enough, append bridges the gap.
func (t *Tracker) append(e entry) {
	t.queue = append(t.queue, e)
	last := len(t.queue) - 1
	if e.obs == nil {
		return
	}
	first := last // of the gap
	for first > 0 && t.queue[first-1].obs == nil && t.queue[first-1].shot == e.shot {
		first--
	}
	gap := last - first
	if !t.broken && gap > 0 {
		if gap <= maxGap && first > 0 && t.queue[first-1].shot == e.shot {
			a := t.queue[first-1].obs
			for i := first; i < last; i++ {
				t.queue[i].obs = between(a, e.obs, float64(i-first+1)/float64(gap+1))
				t.queue[i].track = t.track
			}
		} else {
			t.broken = true
		}
	}
	if t.broken {
		t.track++
		t.broken = false
	}
	t.queue[last].track = t.track
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

// same reports whether two frames have the same content.
func same(a, b *frame.Frame) bool {
	if a.Format != b.Format {
		return false
	}
	for i := range a.Planes {
		if !bytes.Equal(a.Planes[i], b.Planes[i]) {
			return false
		}
	}
	return true
}

// emit returns the first entries of the queue, all but the last keep.
func (t *Tracker) emit(keep int) (ready []Tracked) {
	for len(t.queue) > keep {
		ready = append(ready, t.next())
	}
	return ready
}

// next takes the first entry out of the queue.
func (t *Tracker) next() Tracked {
	e := t.queue[0]
	out := Tracked{Frame: e.frame, Cut: e.cut}
	if e.obs != nil {
		if face := t.smoothed(e); face.usable(e.frame.Size()) {
			out.Face = face
			out.Cut = out.Cut || e.track != t.emitted
			t.emitted = e.track
		}
	}
	e.frame = nil
	t.past = append(t.past, e)
	t.past = slices.Delete(t.past, 0, max(len(t.past)-reach, 0))
	t.queue = slices.Delete(t.queue, 0, 1) // releases the frame
	return out
}

// smoothed returns the Face of e, the first in the queue, from the observations
// around it that belong to its track.
func (t *Tracker) smoothed(e entry) *Face {
	at := len(t.past)
	around := slices.Concat(t.past, t.queue[:min(1+reach, len(t.queue))])
	belongs := func(o entry) bool { return o.obs != nil && o.track == e.track }
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
	if still && t.lastObs == e.obs && t.lastFace.Track == e.track {
		return t.lastFace
	}
	f := &Face{Track: e.track, Score: e.obs.score, Bridged: e.obs.bridged}
	f.Points = smooth(window, at-first)
	f.Yaw = yaw(f.Points)
	f.Align = TemplateAffine(AlignPoints468(f.Points))
	t.lastFace, t.lastObs = f, e.obs
	if !still {
		t.lastObs = nil
	}
	return f
}

// tooSmall reports whether a face is narrower than MinWidth. The height counts
// too, because a turned head is narrow but not small.
func tooSmall(p []Point) bool {
	return math.Max(dist(p[234], p[454]), 0.75*dist(p[10], p[152])) < MinWidth
}

// usable reports whether a face in a frame of w x h pixels is large enough, not turned
// away, and inside the frame.
func (f *Face) usable(w, h int) bool {
	inside := 0
	for _, p := range f.Points {
		if p.X >= 0 && p.Y >= 0 && p.X < float64(w) && p.Y < float64(h) {
			inside++
		}
	}
	return !tooSmall(f.Points) && math.Abs(f.Yaw) <= MaxYaw && float64(inside) >= minVisible*float64(len(f.Points))
}
