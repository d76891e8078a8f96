package job

import (
	"context"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/pipeline"
)

const (
	reportInterval = 250 * time.Millisecond
	// rateWindow is the time over which the frame rate is averaged.
	rateWindow = 5 * time.Second
)

// reporter turns the counts of the pipeline into events with time, speed and memory.
// A goroutine sends progress at a steady pace, so that an observer sees time pass
// even during a slow frame.
type reporter struct {
	meter *memory.Meter
	began time.Time
	quit  chan struct{}
	done  chan struct{}

	mu     sync.Mutex // orders the calls of the observer
	o      Observer
	now    Event
	window []mark // of the last rateWindow

	job        Job
	report     Report // so far
	stats      pipeline.Stats
	engine     []StageReport
	phaseBegan time.Duration // since began
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
	// The meter continues after the job was cancelled, for a last reading; end stops it.
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
			if r.now.Phase != "" { // not before the start event
				r.send(EventProgress, func(*Event) {})
			}
			r.mu.Unlock()
		}
	}
}

// send completes an event and passes it to the observer. The caller holds mu.
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

// speed returns the moving average of frames per second.
func (r *reporter) speed(now time.Time) float64 {
	if r.now.Phase != PhaseFrames {
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

func (r *reporter) start(engine, why string, job Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job, r.now.Engine, r.now.Output = job, engine, job.Output
	r.send(EventStart, func(e *Event) { e.Message = why })
}

// device records where the engine computes, and the GPU of the device if its memory can
// be read.
func (r *reporter) device(runtime string, d backend.Device, gpu *memory.GPU) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Backend, r.report.Device, r.report.DeviceName = runtime, d.ID, d.Name
	if gpu != nil {
		r.report.Memory.Device = &DeviceMemory{Total: gpu.Total, Before: gpu.Used, Peak: gpu.Used}
	}
}

// used records a reading of the memory of the device.
func (r *reporter) used(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.report.Memory.Device; m != nil {
		m.Peak = max(m.Peak, bytes)
	}
}

// phase begins the next phase of the job.
func (r *reporter) phase(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measure(name)
	r.now.Phase = name
	r.send(EventPhase, func(*Event) {})
}

// warn reports that something is wrong; the job continues.
func (r *reporter) warn(message string) { r.note(EventWarning, message) }

// planned reports that another memory plan is in use, and why.
func (r *reporter) planned(p memory.Plan, why string) {
	r.note(EventPlan, why+": continues with "+p.String())
}

func (r *reporter) note(kind, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.report.Notes) < maxNotes {
		r.report.Notes = append(r.report.Notes, Note{seconds(time.Since(r.began)), kind, message})
	}
	r.send(kind, func(e *Event) { e.Message = message })
}

func (r *reporter) expect(frames int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Frames = frames
}

// frames takes the counts of the pipeline; the ticker sends them.
func (r *reporter) frames(s pipeline.Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Frame, r.now.NoFace = s.Frames, s.NoFace
	r.stats = s
	// There may be more frames than the header says. An unknown length stays unknown.
	if r.now.Frames > 0 {
		r.now.Frames = max(r.now.Frames, s.Frames)
	}
}

// step takes a denoising step; the ticker sends it. Frames are finished a window
// at a time, so on a slow machine nothing else shows progress.
func (r *reporter) step(step, steps int) {
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
	result.Report = r.complete(result, err)
	if err != nil {
		r.send(EventError, func(e *Event) {
			e.Message, e.Hint, e.ExitCode, e.Output = fault.Message(err), fault.HintOf(err), fault.KindOf(err).ExitCode(), ""
		})
		return
	}
	result.MemoryPeak, result.Elapsed = r.meter.Peak(), time.Since(r.began)
	r.now.Frames, r.now.Frame = result.Frames, result.Frames
	if s := result.Elapsed.Seconds(); s > 0 {
		r.now.FPS = float64(result.Frames) / s
	}
	r.now.Phase = PhaseFinish
	r.send(EventDone, func(e *Event) { e.ETA = 0 })
}
