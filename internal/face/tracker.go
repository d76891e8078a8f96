package face

import (
	"bytes"
	"context"
	"errors"
	"math"

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

// What makes a face unusable.
const (
	MinWidth   = 32                 // pixels between the ears
	MaxYaw     = 60 * math.Pi / 180 // beyond it one half of the mouth is hidden
	minVisible = 0.6                // part of the points inside the picture
)

// Options configures a Tracker.
type Options struct {
	Choice  Choice // which face; the zero value is the largest
	Threads int    // of the networks, as in backend.Options
}

// Tracked is a frame that the tracker has finished.
type Tracked struct {
	Frame *frame.Frame
	Face  *Face // nil if there is none that can be used
	// Cut is true on the first frame of a shot (except the very first) and
	// where the face's track begins.
	Cut bool
}

// Stats counts the frames that a tracker has returned.
type Stats struct {
	Frames   int // all
	Faces    int // with a usable face
	Bridged  int // with a usable face whose points are interpolated
	None     int // without any face
	TooSmall int // with a face narrower than MinWidth
	Turned   int // with a face turned by more than MaxYaw
	Outside  int // with a face mostly outside of the picture
	Cuts     int // scene cuts
	Repeated int // identical to the frame before, so not analysed again
}

// entry is a frame that waits for later ones.
type entry struct {
	frame *frame.Frame
	obs   *observation // of the chosen person; nil if not seen
	shot  int
	cut   bool
	track int
}

// Tracker follows one face through the frames of a video, in order. It is not
// safe for concurrent use.
type Tracker struct {
	options Options
	people  people
	cuts    cutFinder
	shot    int
	track   int  // of the last entry with a face; -1 before the first
	broken  bool // the next observation begins a new track
	repeats int  // of the last frame's picture
	queue   []entry
	past    []entry // the last reach entries returned, without their frames
	stats   Stats

	lastFace *Face // returned last, with the observation of its window
	lastObs  *observation
	emitted  int // track returned last
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
	t := &Tracker{options: o, track: -1, emitted: -1, broken: true}
	t.people = people{detector: d, mesh: m, complete: o.Choice.rule != "largest"}
	return t
}

// Close frees the networks. It drops the frames still held.
func (t *Tracker) Close() error {
	t.queue = nil
	return errors.Join(t.people.detector.Close(), t.people.mesh.Close())
}

// Stats returns counts of the frames returned so far.
func (t *Tracker) Stats() Stats { return t.stats }

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
	var ready []Tracked
	for len(t.queue) > LookAhead {
		ready = append(ready, t.emit())
	}
	return ready, nil
}

// Flush returns the frames still held. The next Push begins a new video.
func (t *Tracker) Flush(ctx context.Context) ([]Tracked, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var ready []Tracked
	for len(t.queue) > 0 {
		ready = append(ready, t.emit())
	}
	t.newShot()
	t.cuts = cutFinder{}
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
		// Without a face, a repeated picture is searched until every level of the
		// search has had its turn, because one may find what another missed.
		t.repeats++
		if e := t.queue[n-1]; e.obs != nil || t.repeats > Levels*searchEvery {
			e.frame, e.cut = f, false
			t.stats.Repeated++
			t.append(e)
			return nil
		}
	} else {
		t.repeats = 0
	}
	e := entry{frame: f, track: -1}
	if t.cuts.next(f) {
		t.newShot()
		e.cut = true
		t.stats.Cuts++
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
		// The chosen person left. Those who were visible at the same time are
		// other people; only somebody who came later can be the same person.
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

// again chooses among newcomers. A number may then be too large and is reduced.
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

// between interpolates two observations.
func between(a, b *observation, part float64) *observation {
	p := make([]Point, len(a.points))
	for i, u := range a.points {
		v := b.points[i]
		p[i] = Point{u.X + part*(v.X-u.X), u.Y + part*(v.Y-u.Y), u.Z + part*(v.Z-u.Z)}
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

// emit takes the first entry out of the queue.
func (t *Tracker) emit() Tracked {
	e := t.queue[0]
	out := Tracked{Frame: e.frame, Cut: e.cut}
	t.stats.Frames++
	if e.obs == nil {
		t.stats.None++
	} else {
		face := t.smoothed(e)
		if t.usable(face, e.frame) {
			out.Face = face
			t.stats.Faces++
			if face.Bridged {
				t.stats.Bridged++
			}
			if e.track != t.emitted {
				out.Cut = true
				t.emitted = e.track
			}
		}
	}
	e.frame = nil
	if len(t.past) == reach {
		copy(t.past, t.past[1:])
		t.past = t.past[:reach-1]
	}
	t.past = append(t.past, e)
	n := copy(t.queue, t.queue[1:])
	t.queue[n] = entry{} // releases the frame
	t.queue = t.queue[:n]
	return out
}

// smoothed returns the Face of e, the first in the queue, from the observations
// around it that belong to its track.
func (t *Tracker) smoothed(e entry) *Face {
	window := []*observation{e.obs}
	still := true
	at := 0
	for i := len(t.past) - 1; i >= 0 && t.past[i].obs != nil && t.past[i].track == e.track; i-- {
		window = append([]*observation{t.past[i].obs}, window...)
		still = still && t.past[i].obs == e.obs
		at++
	}
	for i := 1; i <= reach && i < len(t.queue) && t.queue[i].obs != nil && t.queue[i].track == e.track; i++ {
		window = append(window, t.queue[i].obs)
		still = still && t.queue[i].obs == e.obs
	}
	if still && t.lastObs == e.obs && t.lastFace != nil && t.lastFace.Track == e.track {
		return t.lastFace
	}
	f := &Face{Track: e.track, Score: e.obs.score, Bridged: e.obs.bridged}
	f.Points = smooth(window, at)
	f.Yaw, f.Pitch, f.Roll = pose(f.Points)
	f.Align = TemplateAffine(AlignPoints468(f.Points))
	t.lastFace, t.lastObs = nil, nil
	if still {
		t.lastFace, t.lastObs = f, e.obs
	}
	return f
}

// tooSmall reports whether a face is narrower than MinWidth. The height counts
// too, because a turned head is narrow but not small.
func tooSmall(p []Point) bool {
	return math.Max(dist(p[234], p[454]), 0.75*dist(p[10], p[152])) < MinWidth
}

// usable reports whether the face can be used. If not, it counts the reason.
func (t *Tracker) usable(f *Face, fr *frame.Frame) bool {
	inside := 0
	for _, p := range f.Points {
		if p.X >= 0 && p.Y >= 0 && p.X < float64(fr.Width) && p.Y < float64(fr.Height) {
			inside++
		}
	}
	switch {
	case tooSmall(f.Points):
		t.stats.TooSmall++
	case math.Abs(f.Yaw) > MaxYaw:
		t.stats.Turned++
	case float64(inside) < minVisible*float64(len(f.Points)):
		t.stats.Outside++
	default:
		return true
	}
	return false
}
