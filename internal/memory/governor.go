package memory

import "fmt"

// Governor changes a job's plan as memory gets short or free again. It is for
// one goroutine and starts none.
type Governor struct {
	ladder []Plan
	fits   func(Plan) bool
	at     int // in ladder
	last   Change

	rest  int // chunks until the effect of the last concession can be seen
	calm  int // chunks without an alert
	wait  int // calm chunks before it climbs
	climb bool
}

const (
	// firstWait is after how many calm chunks a governor takes a concession back,
	// and lastWait the most that it waits after climbs that went wrong.
	firstWait, lastWait = 8, 512
)

// Change is a change of plan, by one concession.
type Change struct {
	From, To Plan
	Why      string // for people: "an allocation failed"
}

// String is a line for people: "an allocation failed: 1 window of 8 frames
// instead of 1 window of 16 frames".
func (c Change) String() string {
	return c.Why + ": " + c.From.Differences(c.To) + " instead of " + c.To.Differences(c.From)
}

// NewGovernor begins with a plan, which is also the best that it will have. fits
// tells whether there is room for a plan now.
func NewGovernor(start Plan, may Concessions, fits func(Plan) bool) *Governor {
	return &Governor{ladder: Ladder(start, may), fits: fits, wait: firstWait}
}

// Plan is the one in force.
func (g *Governor) Plan() Plan { return g.ladder[g.at] }

// Last is the last change; the zero value before the first.
func (g *Governor) Last() Change { return g.last }

// Failed is called after an allocation has failed. It gives the next cheaper
// plan, with which to try the same again; false where there is none.
func (g *Governor) Failed() (Plan, bool) {
	ok := g.retreat("an allocation failed")
	return g.Plan(), ok
}

// Step is called between chunks, with how short memory is. At a critical level
// it goes down by one concession, and waits for a chunk to see what that has
// changed. After some calm chunks it takes one back for which there is room; a
// climb that ends in trouble is tried again only after twice as long.
func (g *Governor) Step(l Level) (p Plan, changed bool) {
	rested := g.rest == 0
	g.rest = 0
	switch {
	case l >= Critical && rested:
		changed = g.retreat("memory is critical")
	case l != Normal:
		g.calm = 0
	default:
		g.calm++
		changed = g.advance()
	}
	return g.Plan(), changed
}

// retreat makes one concession, if there is one left.
func (g *Governor) retreat(why string) bool {
	if g.climb { // it went wrong
		g.wait = min(2*g.wait, lastWait)
	}
	g.calm, g.climb = 0, false
	if g.at == len(g.ladder)-1 {
		return false
	}
	g.move(1, why)
	g.rest = 1
	return true
}

// advance takes a concession back, if it is time for it and there is room.
func (g *Governor) advance() bool {
	switch {
	case g.calm < g.wait:
		return false
	case g.at == 0: // all is well for long
		g.wait, g.climb = firstWait, false
		return false
	case !g.fits(g.ladder[g.at-1]):
		return false
	}
	g.move(-1, fmt.Sprintf("memory was not short for %d chunks", g.calm))
	g.calm, g.climb = 0, true
	return true
}

func (g *Governor) move(by int, why string) {
	from := g.Plan()
	g.at += by
	g.last = Change{From: from, To: g.Plan(), Why: why}
}
