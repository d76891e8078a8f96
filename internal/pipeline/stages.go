package pipeline

import (
	"sync"
	"time"
)

// The stages by name, in the order in which a frame meets them.
const (
	StageDecode = "decode"
	StageFaces  = "faces"
	StageEngine = "engine"
	StageEncode = "encode"
)

var stageNames = [...]string{StageDecode, StageFaces, StageEngine, StageEncode}

// The places of the stages in stageNames.
const (
	decoding = iota
	facing
	speaking
	encoding
)

// StageTime is what one stage's work took so far. The stages work side by side:
// their times add up to more than the time of the run.
type StageTime struct {
	Name  string
	Calls int64 // frames that it has taken and worked on
	// Busy is the time in the stage's work, without waiting for its neighbours
	// or for a free frame. A source or sink that is a pipe of ffmpeg's is busy
	// while it waits for ffmpeg. Work that goes on counts up to now.
	Busy time.Duration
}

// stopwatch counts the time of one stage.
type stopwatch struct {
	mu    sync.Mutex
	calls int64
	busy  time.Duration
	began time.Time // of the work that goes on; zero while the stage waits
}

// start begins a piece of work.
func (w *stopwatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = time.Now()
}

// stop ends it; so many more frames were worked on.
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

// Stages tells what each stage's work took so far. It may be called at any
// time and from any goroutine.
func (p *Pipeline) Stages() []StageTime {
	all := make([]StageTime, len(stageNames))
	for i, name := range stageNames {
		calls, busy := p.watches[i].read()
		all[i] = StageTime{Name: name, Calls: calls, Busy: busy}
	}
	return all
}
