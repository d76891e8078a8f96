package native

import (
	"os"
	"sync/atomic"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/memory"
)

// Growth watches the memory of the process around a session's Load and Run,
// for libraries that do not count their own. What other goroutines allocate
// meanwhile is counted too, so the figure is an estimate.
type Growth struct {
	floor      int64 // never report less: what the session is known to hold
	held, peak atomic.Int64
	runs       atomic.Int64
}

// NewGrowth starts with what the session is known to hold at least.
func NewGrowth(floor int64) *Growth {
	return &Growth{floor: floor}
}

// Measure runs f and adds what the process grew by to what is held.
func (g *Growth) Measure(f func()) {
	before, mark, ok := resident()
	f()
	after, high, ok2 := resident()
	if !ok || !ok2 {
		return
	}
	held := max(g.held.Add(after-before), 0)
	peak := held
	// The high-water mark is the process's: it tells of f only if f moved it.
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

// MeasureRun is Measure for f called again and again: reading the figures takes
// longer than a small model does, so after the first calls only some count.
func (g *Growth) MeasureRun(f func()) {
	if n := g.runs.Add(1); n <= 4 || n%32 == 0 {
		g.Measure(f)
		return
	}
	f()
}

// Memory gives the estimate.
func (g *Growth) Memory() backend.Memory {
	held := max(g.held.Load(), g.floor)
	return backend.Memory{Held: held, Peak: max(held, g.peak.Load())}
}

// resident gives the resident size of the process and its high-water mark.
func resident() (now, high int64, ok bool) {
	if f := memory.SelfStatus("VmRSS", "VmHWM"); f["VmRSS"] > 0 {
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
