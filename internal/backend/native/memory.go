package native

import (
	"os"
	"sync/atomic"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/memory"
)

// Growth measures the memory of the process around a session's Load and Run, for
// libraries that do not count their own. It also counts what other goroutines
// allocate meanwhile, so the result is an estimate.
type Growth struct {
	floor      int64 // the least to report: what the session is known to hold
	held, peak atomic.Int64
	runs       atomic.Int64
}

// NewGrowth returns a Growth of a session that holds at least floor bytes.
func NewGrowth(floor int64) *Growth {
	return &Growth{floor: floor}
}

// Measure runs f and adds the growth of the process to what the session holds.
func (g *Growth) Measure(f func()) {
	before, mark, ok := resident()
	f()
	after, high, ok2 := resident()
	if !ok || !ok2 {
		return
	}
	held := max(g.held.Add(after-before), 0)
	peak := held
	// The peak is that of the process. It belongs to f only if f raised it.
	if high > mark {
		peak += high - after
	}
	for {
		old := g.peak.Load()
		if peak <= old || g.peak.CompareAndSwap(old, peak) {
			return
		}
	}
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

// resident returns the resident size of the process and its peak.
func resident() (now, high int64, ok bool) {
	if f := memory.SelfStatus(); f["VmRSS"] > 0 {
		return f["VmRSS"], max(f["VmHWM"], f["VmRSS"]), true
	}
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return 0, 0, false
	}
	m, err := p.MemoryInfo()
	if err != nil {
		return 0, 0, false
	}
	return int64(m.RSS), int64(m.RSS), true
}
