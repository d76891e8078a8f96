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
	Choice Choice // which face; the zero value is the largest
	// Others are further faces to follow, each of another person. Tracked.Others has
	// them in the same order.
	Others  []Choice
	Threads int // of the networks, as in backend.Options
}

// Tracked is a frame that the tracker has finished.
type Tracked struct {
	Frame  *frame.Frame
	Face   *Face   // of Options.Choice; nil if the frame has no usable face
	Others []*Face // of Options.Others, in the same way
	Cut    bool    // true on the first frame of each shot but the first
}

// entry is a frame that waits for later ones.
type entry struct {
	frame *frame.Frame
	shot  int
	cut   bool
}

// Tracker follows one face, or several, through the frames of a video, in order. It is
// not safe for concurrent use.
type Tracker struct {
	people  people
	cuts    func(*frame.Frame) bool // reports whether a frame begins a new shot
	shot    int
	repeats int     // how often the last frame has been repeated
	queue   []entry // as many as each lane has
	lanes   []*lane // one for each face to follow
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
	t := &Tracker{
		people: people{detector: d, mesh: m, complete: o.Choice.rule != "largest" || len(o.Others) > 0, chosen: make([]*person, 1+len(o.Others)), several: len(o.Others) > 0},
		cuts:   new(cutFinder).next,
	}
	for i, c := range slices.Concat([]Choice{o.Choice}, o.Others) {
		t.lanes = append(t.lanes, &lane{choice: c, chosen: &t.people.chosen[i], track: -1, broken: true})
	}
	return t
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
	for _, l := range t.lanes {
		l.broken = true
	}
	t.shot++
}

// observe appends f to the queue.
func (t *Tracker) observe(ctx context.Context, f *frame.Frame) error {
	// The previous frame is still in the queue, so nobody has edited it yet.
	if n := len(t.queue); n > 0 && same(t.queue[n-1].frame, f) {
		// Without a face, a repeated frame is searched until every level of the
		// search has had its turn, because one may find what another missed.
		t.repeats++
		if t.complete() || t.repeats > searchRound {
			e := t.queue[n-1]
			e.frame, e.cut = f, false
			t.queue = append(t.queue, e)
			for _, l := range t.lanes {
				l.append(l.queue[len(l.queue)-1])
			}
			return nil
		}
	} else {
		t.repeats = 0
	}
	e := entry{frame: f}
	if t.cuts(f) {
		t.newShot()
		e.cut = true
	}
	e.shot = t.shot
	fresh, err := t.people.next(ctx, f)
	if err != nil {
		return err
	}
	t.choose(f, fresh)
	t.queue = append(t.queue, e)
	for _, l := range t.lanes {
		s := sighting{shot: e.shot, track: -1}
		if q := *l.chosen; q != nil && q.gone == 0 {
			l.broken = l.broken || q.jumped
			s.obs = q.obs
		}
		l.append(s)
	}
	return nil
}

// complete reports whether the last frame in the queue shows all faces to follow.
func (t *Tracker) complete() bool {
	return !slices.ContainsFunc(t.lanes, func(l *lane) bool { return l.queue[len(l.queue)-1].obs == nil })
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
		e := t.queue[0]
		t.queue = slices.Delete(t.queue, 0, 1) // releases the frame
		w, h := e.frame.Size()
		out := Tracked{Frame: e.frame, Face: t.lanes[0].next(w, h), Cut: e.cut}
		for _, l := range t.lanes[1:] {
			out.Others = append(out.Others, l.next(w, h))
		}
		ready = append(ready, out)
	}
	return ready
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
