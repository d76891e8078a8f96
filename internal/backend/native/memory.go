package native

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/memory"
)

// Growth measures the memory of the process around a session's Load and Run, for
// libraries that do not count their own. What the process grows by while several sessions
// are measured is divided among them. It also counts what other goroutines allocate
// meanwhile, so the result is an estimate.
type Growth struct {
	floor      int64 // the least to report: what the session is known to hold
	held, peak atomic.Int64
	runs       atomic.Int64
}

// measured are the sessions that are being measured.
var measured struct {
	sync.Mutex
	list []*Growth
	last int64 // resident memory when the list last changed
}

// NewGrowth returns a Growth of a session that holds at least floor bytes.
func NewGrowth(floor int64) *Growth {
	return &Growth{floor: floor}
}

// divide divides the growth of the process since the last call among the sessions that
// are being measured. It then calls change, which changes the list.
func divide(change func(high int64)) {
	measured.Lock()
	defer measured.Unlock()
	now, high, ok := resident()
	if ok {
		for _, g := range measured.list {
			g.held.Add((now - measured.last) / int64(len(measured.list)))
		}
		measured.last = now
	}
	change(high)
}

// Measure runs f and adds the growth of the process to what the session holds.
func (g *Growth) Measure(f func()) {
	var mark int64
	divide(func(high int64) {
		mark = high
		measured.list = append(measured.list, g)
	})
	defer divide(func(high int64) {
		peak := max(g.held.Load(), 0)
		// The peak is that of the process. It belongs to f only if f raised it.
		if high > mark {
			peak += (high - measured.last) / int64(len(measured.list))
		}
		g.peak.Store(max(g.peak.Load(), peak))
		i := slices.Index(measured.list, g)
		measured.list = slices.Delete(measured.list, i, i+1)
	})
	f()
}

// MeasureRun is Measure for frequent calls: after the first calls it measures only
// some, because measuring takes longer than running a small model.
func (g *Growth) MeasureRun(f func()) {
	if n := g.runs.Add(1); n <= 4 || n%32 == 0 {
		g.Measure(f)
		return
	}
	f()
}

// Memory returns the estimate.
func (g *Growth) Memory() backend.Memory {
	held := max(g.held.Load(), g.floor)
	return backend.Memory{Held: held, Peak: max(held, g.peak.Load())}
}

// resident returns the memory of the process and its peak: its resident set, or where
// there is no /proc what memory.Self returns, without the peak.
func resident() (now, high int64, ok bool) {
	if f := memory.SelfStatus(); f["VmRSS"] > 0 {
		return f["VmRSS"], max(f["VmHWM"], f["VmRSS"]), true
	}
	now, err := memory.Self()
	return now, now, err == nil
}
