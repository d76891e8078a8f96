package server

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/queue"
)

// board holds the record and the progress of every job, as reported by the queue.
type board struct {
	mu      sync.Mutex
	jobs    map[string]*entry
	gone    []tombstone // the last that were removed
	version uint64      // grows with every change
	changed chan struct{}
}

type entry struct {
	job     queue.Job
	version uint64                  // of the last change, progress included
	record  uint64                  // of the last change of the record
	latest  map[int]lipstream.Event // of each task
}

type tombstone struct {
	id      string
	version uint64
}

// maxTombstones bounds the removed jobs that are remembered.
const maxTombstones = 1000

func newBoard() *board {
	return &board{jobs: map[string]*entry{}, changed: make(chan struct{})}
}

// note wakes everybody who waits for a change. The caller holds mu.
func (b *board) note() {
	b.version++
	close(b.changed)
	b.changed = make(chan struct{})
}

// set records a change of a job; nil removes it.
func (b *board) set(id string, j *queue.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if j == nil {
		if e != nil {
			delete(b.jobs, id)
			b.note()
			b.gone = append(b.gone, tombstone{id, b.version})
			b.gone = b.gone[max(0, len(b.gone)-maxTombstones):]
		}
		return
	}
	if e == nil {
		e = &entry{latest: map[int]lipstream.Event{}}
		b.jobs[id] = e
	}
	if e.job.Revision >= j.Revision && e.job.Revision != 0 {
		return
	}
	if e.job.Generation != j.Generation {
		clear(e.latest)
	}
	e.job = *j
	b.note()
	e.version, e.record = b.version, b.version
}

// event records the progress that an event reports.
func (b *board) event(id string, q queue.Event) {
	var e struct {
		Task int `json:"task"`
	}
	var v lipstream.Event
	if json.Unmarshal(q.Data, &e) != nil || json.Unmarshal(q.Data, &v) != nil || v.Type != lipstream.EventProgress && v.Type != lipstream.EventPhase {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if j := b.jobs[id]; j != nil {
		j.latest[e.Task] = v
		b.note()
		j.version = b.version
	}
}

// view returns the job as the API shows it.
func (e *entry) view() jobView {
	base := "/v1/jobs/" + e.job.ID
	v := jobView{Job: e.job, Links: links{Events: base + "/events", Preview: base + "/preview", Video: base + "/video", Audio: base + "/audio"}}
	// The rest is only for workers.
	v.Protocol = 0
	public := func(m queue.Media) queue.Media { return queue.Media{Name: m.Name, Size: m.Size} }
	v.Video, v.Audio, v.Voices = public(v.Video), public(v.Audio), nil
	for _, m := range e.job.Voices {
		v.Voices = append(v.Voices, public(m))
	}
	for _, m := range []**queue.Media{&v.Soundtrack, &v.Mask} {
		if *m != nil {
			*m = new(public(**m))
		}
	}
	v.Tasks = []queue.Task{}
	for _, t := range e.job.Tasks {
		v.Tasks = append(v.Tasks, queue.Task{Kind: t.Kind, State: t.State, Part: t.Part, Attempts: t.Attempts, Worker: t.Worker, Frames: t.Frames})
	}
	if v.Result != nil {
		v.Result = new(*v.Result)
		v.Result.Object = ""
		v.Links.Result = base + "/result"
	}
	if v.State == queue.Running {
		v.Progress = e.progress()
	}
	return v
}

// progress returns the progress of all tasks together.
func (e *entry) progress() *progressView {
	var p progressView
	for i, t := range e.job.Tasks {
		v, ok := e.latest[i]
		switch {
		case t.State == queue.Done && t.Kind == queue.KindPart:
			p.Phase = cmp.Or(p.Phase, lipstream.PhaseFrames)
			p.Frame += t.Frames
		case t.State == queue.Running && ok:
			p.Phase = v.Phase
			p.Frame += v.Frame
			p.FPS += v.FPS
			p.ETA = max(p.ETA, v.ETA.Seconds())
			p.MemoryNow += v.MemoryNow
			p.MemoryPeak = max(p.MemoryPeak, v.MemoryPeak)
			p.NoFace += v.NoFace
			p.Step, p.Steps = v.Step, v.Steps
			p.Frames = max(p.Frames, v.Frames)
		}
	}
	if p.Phase == "" {
		return nil // no task has reported anything
	}
	if at := len(e.job.Tasks) - 2; at > 0 {
		// A job in parts: all frames up to the last part, and those of the last part as
		// far as they are known, or as many as the others have.
		last := e.job.Tasks[at]
		p.Frames = last.Part.From + max(last.Frames, e.latest[at].Frames, last.Part.From/int64(at))
		p.ETA = 0
	}
	return &p
}

// get returns a job, or false if the board does not have it.
func (b *board) get(id string) (jobView, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil {
		return jobView{}, false
	}
	return e.view(), true
}

// record returns a job's view without progress, a number that increases with every
// change of the record, and a channel that is closed when any job changes.
func (b *board) record(id string) (v jobView, version uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[id]; e != nil {
		v, version = e.view(), e.record
		v.Progress = nil
	}
	return v, version, b.changed
}

// since returns what has changed after a version, oldest first.
func (b *board) since(version uint64) (jobs []jobView, gone []string, now uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []*entry
	for _, e := range b.jobs {
		if e.version > version {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, c *entry) int { return strings.Compare(a.job.ID, c.job.ID) })
	for _, e := range list {
		jobs = append(jobs, e.view())
	}
	for _, t := range b.gone {
		if t.version > version {
			gone = append(gone, t.id)
		}
	}
	return jobs, gone, b.version, b.changed
}

// list returns jobs, the newest first.
func (b *board) list(state, before string, limit int) []jobView {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]string, 0, len(b.jobs))
	for id, e := range b.jobs {
		if (state == "" || string(e.job.State) == state) && (before == "" || id < before) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, c string) int { return strings.Compare(c, a) })
	list := []jobView{}
	for _, id := range ids[:min(limit, len(ids))] {
		list = append(list, b.jobs[id].view())
	}
	return list
}

// count returns the number of jobs in each state.
func (b *board) count() map[queue.State]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[queue.State]int{queue.Queued: 0, queue.Running: 0, queue.Done: 0, queue.Failed: 0, queue.Cancelled: 0}
	for _, e := range b.jobs {
		n[e.job.State]++
	}
	return n
}

// all returns all records.
func (b *board) all() []queue.Job {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]queue.Job, 0, len(b.jobs))
	for _, e := range b.jobs {
		list = append(list, e.job)
	}
	return list
}

// jobView is a job's JSON.
type jobView struct {
	queue.Job
	Progress *progressView `json:"progress,omitempty"`
	Links    links         `json:"links"`
}

type progressView struct {
	Phase      string  `json:"phase"`
	Frame      int64   `json:"frame"`
	Frames     int64   `json:"frames"`
	FPS        float64 `json:"fps"`
	ETA        float64 `json:"eta_s,omitempty"`
	Step       int     `json:"step,omitempty"`
	Steps      int     `json:"steps,omitempty"`
	MemoryNow  int64   `json:"memory_now"`
	MemoryPeak int64   `json:"memory_peak"`
	NoFace     int64   `json:"no_face"`
}

type links struct {
	Events  string `json:"events"`
	Result  string `json:"result,omitempty"`
	Preview string `json:"preview"`
	Video   string `json:"video"`
	Audio   string `json:"audio"`
}
