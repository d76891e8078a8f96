package lipstream

import (
	"context"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
)

const (
	reportInterval = 250 * time.Millisecond
	// rateWindow is the time over which the frame rate is averaged.
	rateWindow = 5 * time.Second
)

// reporter turns what the pipeline counts into events: it adds time, speed and
// memory. One goroutine of its own sends progress at a steady pace, so that a
// slow frame still shows a clock that runs.
type reporter struct {
	meter *memory.Meter
	began time.Time
	quit  chan struct{}
	done  chan struct{}

	mu     sync.Mutex // orders the observer's calls
	o      Observer
	now    Event
	window []mark // of the last rateWindow
	record record
}

type mark struct {
	at    time.Time
	frame int64
}

func newReporter(ctx context.Context, o Observer) *reporter {
	if o == nil {
		o = ObserverFunc(func(Event) {})
	}
	r := &reporter{o: o, began: time.Now(), meter: memory.NewMeter(memory.Probe{}), quit: make(chan struct{}), done: make(chan struct{})}
	// The meter outlives a cancelled job for its last reading; end stops it.
	r.meter.Start(context.WithoutCancel(ctx))
	go r.tick()
	return r
}

func (r *reporter) tick() {
	defer close(r.done)
	t := time.NewTicker(reportInterval)
	defer t.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-t.C:
			r.mu.Lock()
			if r.now.Stage != "" { // the start comes first
				r.send(EventProgress, func(*Event) {})
			}
			r.mu.Unlock()
		}
	}
}

// send completes an event and gives it to the observer; mu is held.
func (r *reporter) send(kind string, set func(*Event)) {
	now := time.Now()
	e := r.now
	e.Type, e.Time, e.Elapsed = kind, now, now.Sub(r.began)
	e.MemoryNow, e.MemoryPeak = r.meter.Now().Total(), r.meter.Peak()
	e.FPS = r.speed(now)
	if left := e.Frames - e.Frame; e.FPS > 0 && left > 0 {
		e.ETA = time.Duration(float64(left) / e.FPS * float64(time.Second))
	}
	set(&e)
	r.o.Observe(e)
}

// speed is the moving average of frames per second.
func (r *reporter) speed(now time.Time) float64 {
	if r.now.Stage != StageFrames {
		return r.now.FPS
	}
	r.window = append(r.window, mark{now, r.now.Frame})
	for len(r.window) > 1 && now.Sub(r.window[0].at) > rateWindow {
		r.window = r.window[1:]
	}
	first := r.window[0]
	if dt := now.Sub(first.at).Seconds(); dt > 0 {
		r.now.FPS = float64(r.now.Frame-first.frame) / dt
	}
	return r.now.FPS
}

func (r *reporter) start(engine, why, output string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Engine, r.now.Output = engine, output
	r.send(EventStart, func(e *Event) { e.Message = why })
}

func (r *reporter) stage(name string) {
	now, peak := r.meter.Lap()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.phase(name, time.Since(r.began), now.Total(), peak)
	r.now.Stage = name
	r.send(EventStage, func(*Event) {})
}

// warn tells of something amiss; the job goes on.
func (r *reporter) warn(message string) { r.note(EventWarning, message) }

// alert tells that memory has crossed a threshold.
func (r *reporter) alert(message string) { r.note(EventAlert, message) }

// planned tells that the memory plan has changed, how and why.
func (r *reporter) planned(message string) { r.note(EventPlan, message) }

func (r *reporter) note(kind, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.note(kind, message, time.Since(r.began))
	r.send(kind, func(e *Event) { e.Message = message })
}

func (r *reporter) expect(frames int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Frames = frames
}

// frames takes the pipeline's counts; the ticker sends them.
func (r *reporter) frames(s pipeline.Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Frame, r.now.NoFace = s.Frames, s.NoFace
	r.record.stats = s
	// A length that was estimated gives way to what is really there; one that
	// is not known stays so.
	if r.now.Frames > 0 {
		r.now.Frames = max(r.now.Frames, s.Frames)
	}
}

// step tells of a denoising step; the ticker sends it. Frames are finished a
// window at a time, so that on a slow machine nothing else shows life.
func (r *reporter) step(_ int64, step, steps int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Step, r.now.Steps = step, steps
}

// end sends the last event and stops the goroutines.
func (r *reporter) end(result *Result, err error) {
	close(r.quit)
	<-r.done
	r.meter.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	result.Report = r.report(result, err)
	if err != nil {
		r.send(EventError, func(e *Event) {
			e.Message, e.Hint, e.ExitCode, e.Output = fault.Message(err), fault.HintOf(err), int(fault.KindOf(err)), ""
		})
		return
	}
	result.MemoryPeak, result.Elapsed = r.meter.Peak(), time.Since(r.began)
	r.now.Frames, r.now.Frame = result.Frames, result.Frames
	if s := result.Elapsed.Seconds(); s > 0 {
		r.now.FPS = float64(result.Frames) / s
	}
	r.now.Stage = StageFinish
	r.send(EventDone, func(e *Event) { e.ETA = 0 })
}
