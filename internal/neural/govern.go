package neural

import (
	"encoding/json"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/journal"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/tensor"
)

// plan chooses the memory plan, before anything is loaded.
func (e *Engine) plan(c configs) error {
	o := e.o
	if o.Device.FusesAttention {
		o.Allowed.Slices = 0
	}
	n := needs{configs: c, o: o, known: map[string]footprint{}}
	e.needs = func(p memory.Plan) int64 { return o.Reserved + n.of(p) }
	limited := o.Budget > 0 || o.BudgetFrom != "" // of a full GPU, nothing may be used
	fits := func(p memory.Plan) bool { return !limited || e.needs(p) <= o.Budget }
	chosen, ok := o.choose(fits)
	if !ok {
		least := memory.Size(e.needs(chosen))
		return fault.Memory.New("plan the memory of "+o.Name(), "it takes at least "+least+" ("+chosen.String()+") but may use only "+memory.Size(o.Budget)+" ("+o.BudgetFrom+")",
			"allow it "+least+", or do not set `offload`, `frames_per_window`, `vae_tile` and `precision`")
	}
	e.networks.governor = memory.NewGovernor(chosen, o.Allowed, fits)
	return nil
}

// choose returns the best plan that fits, or the cheapest one and false.
func (o Options) choose(fits func(memory.Plan) bool) (memory.Plan, bool) {
	chosen, ok := memory.Choose(memory.Ladder(o.Plan, o.Allowed), fits)
	if ok && chosen.Offload != memory.OffloadNone && o.Allowed.Windows {
		for n := o.InFlight; n > chosen.Windows; n /= 2 {
			more := chosen
			if more.Windows = n; fits(more) {
				chosen = more
			}
		}
	}
	return chosen, ok
}

// retreat switches to the next cheaper plan after an allocation failed. If no cheaper
// plan is allowed, it returns an error.
func (e *Engine) retreat(failed error) error {
	from := e.networks.plan()
	if _, ok := e.networks.governor.Failed(); !ok {
		return fault.Memory.Wrap("continue with "+e.o.Name(), failed, "give the job more memory, or do not set `offload`, `frames_per_window` and `vae_tile`")
	}
	err := e.changed(from, "out of memory: "+failed.Error())
	e.giveBack()
	return err
}

// try calls f, and again with cheaper and cheaper plans while an allocation fails.
func (e *Engine) try(f func() error) error {
	for {
		err := f()
		if fault.KindOf(err) != fault.Memory {
			return err
		}
		if err := e.retreat(err); err != nil {
			return err
		}
	}
}

// settle is called after windows have been finished. It returns unused memory and adapts
// the plan to the memory that is left.
func (e *Engine) settle(windows int) error {
	e.pace.add(windows, e.networks)
	due := func(every int) bool { return every > 0 && e.pace.windows/every > (e.pace.windows-windows)/every }
	if due(e.o.ShrinkEvery) {
		e.networks.shrink()
	}
	if due(e.o.ReturnEvery) {
		e.giveBack()
	}
	if e.o.Level == nil {
		return nil
	}
	level := e.o.Level()
	from := e.networks.plan()
	if _, changed := e.networks.governor.Step(level); !changed {
		return nil
	}
	why := "memory is free again"
	if level >= memory.Critical {
		why = "memory is short"
	}
	return e.changed(from, why)
}

// changed reports and applies a change of plan.
func (e *Engine) changed(from memory.Plan, why string) error {
	if e.o.Replanned != nil {
		e.o.Replanned(e.networks.plan(), why)
	}
	e.networks.shrink() // or a device would keep what only the old plan needed
	return e.networks.changed(from)
}

// giveBack returns the unused memory of Go and of the C library to the system.
func (e *Engine) giveBack() {
	debug.FreeOSMemory()
	native.ReturnFree()
}

// nextRecord returns the next window of an earlier run, without consuming it, or nil
// after the last.
func (e *Engine) nextRecord() (*journal.Record, error) {
	if e.pending == nil && e.o.Journal != nil && !e.exhausted {
		r, ok, err := e.o.Journal.Next()
		if err != nil {
			return nil, err
		}
		if e.exhausted = !ok; ok {
			e.pending = &r
		}
	}
	return e.pending, nil
}

// size returns the number of frames of the next window: that of an earlier run, or else
// that of the current plan.
func (e *Engine) size() (int, error) {
	r, err := e.nextRecord()
	if r == nil || err != nil {
		return e.networks.plan().Frames, err
	}
	var p memory.Plan
	if err := json.Unmarshal(r.Plan, &p); err != nil || p.Frames < 1 {
		return 0, errJournal("a plan in its journal cannot be read")
	}
	return p.Frames, nil
}

// recall returns the latents of a window from an earlier run, or nil if that run did not
// finish the window.
func (e *Engine) recall(w window) ([][]float32, error) {
	r, err := e.nextRecord()
	if r == nil || err != nil {
		return nil, err
	}
	n, each := len(w.frames), e.painter.size()
	if r.First != w.frames[0].index || r.Frames != n || r.Fresh != w.fresh || len(r.Latents) != n*each {
		return nil, errJournal("its windows differ from those of this run")
	}
	e.pending = nil
	latents := make([][]float32, n)
	for i := range latents {
		latents[i] = r.Latents[i*each : (i+1)*each : (i+1)*each]
	}
	e.networks.note(workRecall, 1, 0, 0)
	return latents, nil
}

// errJournal returns the error for a journal that does not belong to this job.
func errJournal(cause string) error {
	return fault.Input.New("continue the interrupted run", cause, "set `resume` to never to start again")
}

// toHalf rounds the latents of each frame to half precision, because the journal then takes
// less than half the space. It is done in every run, so that one that continues from a
// journal gets the same latents. Latents beyond the range of half precision stay as they
// are, and so does the whole frame.
func toHalf(frames [][]float32) {
	for _, latents := range frames {
		half := make([]byte, 2*len(latents))
		if tensor.F32ToF16(half, latents) == 0 {
			tensor.F16ToF32(latents, half)
		}
	}
}

// record adds a window's latents to the journal, for a run that continues from here.
func (e *Engine) record(w window, latents [][]float32) error {
	if e.o.Journal == nil {
		return nil
	}
	plan, err := json.Marshal(e.networks.plan())
	if err != nil {
		return fault.Internal.Wrap("add a window to the journal", err)
	}
	return e.o.Journal.Append(journal.Record{
		First: w.frames[0].index, Frames: len(w.frames), Fresh: w.fresh, Plan: plan, Latents: slices.Concat(latents...),
	})
}

// pace counts windows, and the time that the networks were running.
type pace struct {
	windows int

	mu           sync.Mutex // guards what follows
	began, ended time.Time  // of the steady state
	busy         [2]time.Duration
}

// add counts n windows that have just been finished.
func (p *pace) add(n int, s *networks) {
	p.windows += n
	now, busy := time.Now(), s.spent(workWhisper)+s.spent(workEncoder)+s.spent(workUNet)+s.spent(workDecoder)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		p.began, p.busy[0] = now, busy
	}
	p.ended, p.busy[1] = now, busy
}

// Report implements lip.Engine. An engine that shares the networks of another leaves the
// report to that one.
func (e *Engine) Report() lip.Report {
	if e.peer != nil {
		return lip.Report{}
	}
	r := lip.Report{Plan: new(e.networks.plan()), Budget: e.o.Budget}
	e.networks.mu.Lock()
	for _, w := range e.networks.work {
		if w.Name == workWindow { // the sum of the others
			r.Windows, r.Window = w.Calls, w.Busy
			continue
		}
		r.Work = append(r.Work, w)
	}
	e.networks.mu.Unlock()
	e.pace.mu.Lock()
	defer e.pace.mu.Unlock()
	r.Wall, r.Busy = e.pace.ended.Sub(e.pace.began), e.pace.busy[1]-e.pace.busy[0]
	return r
}
