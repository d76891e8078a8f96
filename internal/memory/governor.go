package memory

// Governor changes a job's plan as memory gets short or free again. It is for
// one goroutine and starts none.
type Governor struct {
	ladder []Plan
	fits   func(Plan) bool
	at     int // in ladder

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

// NewGovernor begins with a plan. fits tells whether there is room for a plan
// now.
func NewGovernor(start Plan, may Concessions, fits func(Plan) bool) *Governor {
	return &Governor{ladder: Ladder(start, may), fits: fits, wait: firstWait}
}

// Plan is the one in force.
func (g *Governor) Plan() Plan { return g.ladder[g.at] }

// Failed is called after an allocation has failed. It gives the next cheaper
// plan, with which to try the same again; false where there is none.
func (g *Governor) Failed() (Plan, bool) {
	g.trouble()
	if g.at == len(g.ladder)-1 {
		return g.Plan(), false
	}
	g.at++
	g.rest = 1
	return g.Plan(), true
}

// Step is called between chunks, with how short memory is. At a critical level
// it goes down by one concession, and waits for a chunk to see what that has
// changed. After some calm chunks it takes one back for which there is room; a
// climb that ends in trouble is tried again only after twice as long.
func (g *Governor) Step(l Level) (p Plan, changed bool) {
	was := g.at
	switch {
	case l == Critical && g.rest == 0 && g.at < len(g.ladder)-1:
		g.trouble()
		g.at++
		g.rest = 1
	case l == Critical:
		g.calm, g.rest = 0, max(0, g.rest-1)
	case l != Normal:
		g.calm, g.rest = 0, 0
	default:
		g.rest = 0
		if g.calm++; g.calm >= g.wait && g.at > 0 && g.fits(g.ladder[g.at-1]) {
			g.at--
			g.calm, g.climb = 0, true
		}
		if g.at == 0 && g.calm >= g.wait { // all is well for long
			g.wait, g.climb = firstWait, false
		}
	}
	return g.Plan(), g.at != was
}

// trouble notes that a climb went wrong.
func (g *Governor) trouble() {
	if g.climb {
		g.wait = min(2*g.wait, lastWait)
	}
	g.calm, g.climb = 0, false
}
