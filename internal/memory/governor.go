package memory

import (
	"fmt"
	"sync/atomic"
)

// Governor owns the memory plan of a job and changes it as memory gets short or
// free again. It starts no goroutine. Its methods must not be called concurrently,
// but for Plan.
type Governor struct {
	ladder []Plan
	fits   func(Plan) bool
	at     atomic.Int32 // in ladder
	last   Change

	rest     int  // chunks until the effect of the last reduction shows
	calm     int  // chunks without an alert
	wait     int  // calm chunks before a reduction is undone
	restored bool // the last change undid a reduction
}

const (
	// firstWait is how many calm chunks a governor waits before it undoes a
	// reduction, and lastWait the most that it waits after attempts that failed.
	firstWait, lastWait = 8, 512
)

// Change describes a change of plan by one reduction.
type Change struct {
	From, To Plan
	Why      string // such as "an allocation failed"
}

// String returns a line such as "an allocation failed: 1 window of 8 frames
// instead of 1 window of 16 frames".
func (c Change) String() string {
	return c.Why + ": " + c.From.Differences(c.To) + " instead of " + c.To.Differences(c.From)
}

// NewGovernor returns a governor that begins with start, which is also the best
// plan that it uses. fits reports whether there is room for a plan now.
func NewGovernor(start Plan, allowed Reductions, fits func(Plan) bool) *Governor {
	return &Governor{ladder: Ladder(start, allowed), fits: fits, wait: firstWait}
}

// Plan returns the plan in force. It may be called from any goroutine.
func (g *Governor) Plan() Plan { return g.ladder[g.at.Load()] }

// Best returns the plan that the governor began with, which needs the most memory.
func (g *Governor) Best() Plan { return g.ladder[0] }

// Last returns the last change, or the zero value before the first.
func (g *Governor) Last() Change { return g.last }

// Failed is called after an allocation has failed. It returns the next cheaper
// plan to try again with, or false when there is none.
func (g *Governor) Failed() (Plan, bool) {
	ok := g.reduce("an allocation failed")
	return g.Plan(), ok
}

// Step is called between chunks with the level of memory. At a critical level it
// applies one reduction, and then waits for a chunk to see the effect. After some
// calm chunks it undoes one, if there is room. If that leads to another shortage,
// it waits twice as long before the next attempt.
func (g *Governor) Step(l Level) (p Plan, changed bool) {
	rested := g.rest == 0
	g.rest = 0
	switch {
	case l >= Critical && rested:
		changed = g.reduce("memory is critical")
	case l != Normal:
		g.calm = 0
	default:
		g.calm++
		changed = g.restore()
	}
	return g.Plan(), changed
}

// reduce applies one reduction, if one is left.
func (g *Governor) reduce(why string) bool {
	if g.restored { // too early
		g.wait = min(2*g.wait, lastWait)
	}
	g.calm, g.restored = 0, false
	if int(g.at.Load()) == len(g.ladder)-1 {
		return false
	}
	g.move(1, why)
	g.rest = 1
	return true
}

// restore undoes one reduction, if memory was calm for long enough and there is
// room.
func (g *Governor) restore() bool {
	switch {
	case g.calm < g.wait:
		return false
	case g.at.Load() == 0: // calm under the best plan: forget earlier failures
		g.wait, g.restored = firstWait, false
		return false
	case !g.fits(g.ladder[g.at.Load()-1]):
		return false
	}
	g.move(-1, fmt.Sprintf("memory was not short for %d chunks", g.calm))
	g.calm, g.restored = 0, true
	return true
}

func (g *Governor) move(by int32, why string) {
	from := g.Plan()
	g.at.Add(by)
	g.last = Change{From: from, To: g.Plan(), Why: why}
}
