package pipeline

import (
	"sync"
	"time"
)

// The stages, in the order in which a frame passes them.
const (
	decoding = iota
	facing
	speaking
	compositing
	encoding
)

var stageNames = [...]string{decoding: "decode", facing: "faces", speaking: "engine", compositing: "composite", encoding: "encode"}

// StageTime says how long a stage worked so far. The stages work side by side, so the
// sum of their times is more than the time of the run.
type StageTime struct {
	Name  string
	Calls int64 // frames that it has worked on
	// Busy is the time of the work itself, without waiting for other stages or for a
	// free frame. A source or sink that is a pipe of ffmpeg is busy while it waits for
	// ffmpeg. Work in progress counts.
	Busy time.Duration
}

// stopwatch measures the time of one stage.
type stopwatch struct {
	mu    sync.Mutex
	calls int64
	busy  time.Duration
	began time.Time // of the work in progress; zero while the stage waits
}

// start begins a piece of work.
func (w *stopwatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = time.Now()
}

// stop ends the piece of work. frames is the number of frames that it finished.
func (w *stopwatch) stop(frames int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy += time.Since(w.began)
	w.calls += frames
	w.began = time.Time{}
}

func (w *stopwatch) read() (calls int64, busy time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	busy = w.busy
	if !w.began.IsZero() {
		busy += time.Since(w.began)
	}
	return w.calls, busy
}

// Stages returns how long each stage worked so far. It may be called at any time, from
// any goroutine.
func (p *Pipeline) Stages() []StageTime {
	all := make([]StageTime, len(stageNames))
	for i, name := range stageNames {
		calls, busy := p.watches[i].read()
		all[i] = StageTime{Name: name, Calls: calls, Busy: busy}
	}
	return all
}
