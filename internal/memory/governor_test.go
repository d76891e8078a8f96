package memory

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func always(Plan) bool { return true }

// rungs steps a governor through the levels, one a chunk, and returns the rung
// after each; 0 is the start.
func rungs(g *Governor, levels ...Level) (at []int) {
	for _, l := range levels {
		g.Step(l)
		at = append(at, slices.Index(g.ladder, g.Plan()))
	}
	return at
}

func calm(n int) []Level { return make([]Level, n) } // Normal

func TestGovernorSteps(t *testing.T) {
	const n, w, c = Normal, Warning, Critical
	for _, tt := range []struct {
		name   string
		levels []Level
		want   []int
	}{
		{"a chunk between two reductions", []Level{c, c, c, c, c}, []int{1, 1, 2, 2, 3}},
		{"any chunk will do", []Level{c, n, c, w, c}, []int{1, 1, 2, 2, 3}},
		{"a warning changes nothing", []Level{w, w, w, w}, []int{0, 0, 0, 0}},
		{"eight calm chunks", append([]Level{c}, calm(8)...), []int{1, 1, 1, 1, 1, 1, 1, 1, 0}},
		{"eight in a row", slices.Concat([]Level{c}, calm(7), []Level{w}, calm(8)), []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0}},
		{"eight for each", slices.Concat([]Level{c, n, c}, calm(16)), []int{1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 0}},
	} {
		if got := rungs(NewGovernor(rich, all, always), tt.levels...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestGovernorFails(t *testing.T) {
	g := NewGovernor(rich, all, always)
	ladder := Ladder(rich, all)
	for i, want := range ladder[1:] {
		p, ok := g.Failed()
		if !ok || p != want || g.Plan() != want || g.Last() != (Change{From: ladder[i], To: want, Why: "an allocation failed"}) {
			t.Fatalf("failure %d: %v, %v, last %v", i+1, p, ok, g.Last())
		}
	}
	last := g.Last()
	for range 3 {
		if p, ok := g.Failed(); ok || p != ladder[len(ladder)-1] || g.Last() != last {
			t.Fatalf("at the end: %v, %v, last %v", p, ok, g.Last())
		}
	}
	if p, changed := g.Step(Critical); changed || p != ladder[len(ladder)-1] {
		t.Errorf("critical at the end: %v, %v", p, changed)
	}
}

// TestGovernorLast: each change has its reason, and no change leaves the last.
func TestGovernorLast(t *testing.T) {
	g := NewGovernor(rich, all, always)
	if g.Last() != (Change{}) {
		t.Errorf("before the first: %v", g.Last())
	}
	rungs(g, Critical, Critical)
	if got := g.Last().String(); got != "memory is critical: 2 windows of 16 frames instead of 4 windows of 16 frames" {
		t.Error(got)
	}
	rungs(g, calm(9)...)
	if got := g.Last().String(); got != "memory was not short for 8 chunks: 4 windows of 16 frames instead of 2 windows of 16 frames" {
		t.Error(got)
	}
}

// TestGovernorAfterFailure: the chunk that is tried again after a failure is the
// one in which its effect can be seen.
func TestGovernorAfterFailure(t *testing.T) {
	g := NewGovernor(rich, all, always)
	g.Failed()
	if got := rungs(g, Critical, Critical); !slices.Equal(got, []int{1, 2}) {
		t.Error(got)
	}
}

// TestGovernorRoom: without room no reduction is undone, and with room the next one is at once.
func TestGovernorRoom(t *testing.T) {
	room, asked := false, []Plan{}
	g := NewGovernor(rich, all, func(p Plan) bool { asked = append(asked, p); return room })
	g.Failed()
	if got := rungs(g, calm(100)...); slices.Max(got) != 1 || slices.Min(got) != 1 {
		t.Error(got)
	}
	if len(asked) != 100-firstWait+1 || asked[0] != rich {
		t.Errorf("asked %d times, first for %v", len(asked), asked)
	}
	room = true
	if p, changed := g.Step(Normal); !changed || p != rich {
		t.Errorf("%v, %v", p, changed)
	}
}

// TestGovernorBacksOff: where the start is too much, it is tried again and
// again, after twice as long each time, by failures as by alerts, up to a
// limit; and after a long calm at the start all is forgotten.
func TestGovernorBacksOff(t *testing.T) {
	for name, trouble := range map[string]func(*Governor){
		"failures": func(g *Governor) { g.Failed() },
		"alerts":   func(g *Governor) { g.Step(Critical) },
		"warnings first": func(g *Governor) {
			g.Step(Warning)
			g.Step(Critical)
		},
	} {
		g := NewGovernor(rich, all, always)
		restore := func() (chunks int) {
			for g.Plan() != rich {
				g.Step(Normal)
				chunks++
			}
			return chunks
		}
		var waits []int
		for range 9 {
			trouble(g)
			waits = append(waits, restore())
		}
		if !slices.Equal(waits, []int{8, 16, 32, 64, 128, 256, 512, 512, 512}) {
			t.Errorf("%s: waits %v", name, waits)
		}
		rungs(g, calm(511)...)
		trouble(g)
		if n := restore(); n != 512 {
			t.Errorf("%s: after 511 calm chunks it waits %d", name, n)
		}
		rungs(g, calm(512)...)
		trouble(g)
		if n := restore(); n != 8 {
			t.Errorf("%s: after 512 calm chunks it waits %d", name, n)
		}
	}
}

// TestGovernorSettles: in a job that has room for some rung and no more, the
// governor stays there nearly all of the time.
func TestGovernorSettles(t *testing.T) {
	const chunks = 20000
	last := len(Ladder(rich, all)) - 1
	for room := range last + 1 {
		g := NewGovernor(rich, all, always)
		above := 0
		for range chunks {
			level := Normal
			if int(g.at.Load()) < room {
				level, above = Critical, above+1
			}
			g.Step(level)
		}
		// On the way down two chunks a rung, and then one for each attempt: after 8,
		// 16, ... 512 chunks, and every 512.
		if most := 2*room + 2*(7+chunks/lastWait); above > most || int(g.at.Load()) > room {
			t.Errorf("room for rung %d: %d chunks above it, at most %d; ends at %d", room, above, most, g.at.Load())
		}
	}
}

// TestGovernorAtRandom follows random plans through random levels, failures and
// room.
func TestGovernorAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 2))
	restored, reduced := 0, 0
	for range 2000 {
		start, allowed, _ := random(r)
		room := true
		g := NewGovernor(start, allowed, func(Plan) bool { return room })
		ladder := Ladder(start, allowed)
		before, fell := g.Plan(), -2 // chunk of the last reduction
		calmFor := r.Float64()
		for chunk := range 300 {
			room = r.IntN(3) > 0
			level := Normal
			if r.Float64() > calmFor {
				level = Level(r.IntN(3))
			}
			if r.IntN(40) == 0 {
				p, ok := g.Failed()
				if want, can := Cheaper(before, allowed); ok != can || p != want || p != g.Plan() {
					t.Fatalf("failed under %v: %v, %v; want %v", before, p, ok, want)
				}
				if before = p; ok {
					fell = chunk - 1 // this chunk is done again, and shows its effect
				}
			}
			p, changed := g.Step(level)
			if p != g.Plan() || changed != (p != before) || changed && g.Last() != (Change{From: before, To: p, Why: g.Last().Why}) || changed && g.Last().Why == "" {
				t.Fatalf("%v, %v, last %+v", p, changed, g.Last())
			}
			switch want, _ := Cheaper(before, allowed); {
			case !changed:
			case level == Critical && p == want:
				if chunk-fell < 2 {
					t.Fatalf("chunk %d: a reduction right after that of chunk %d", chunk, fell)
				}
				fell = chunk
				reduced++
			case level == Normal && room:
				if back, ok := Cheaper(p, allowed); !ok || back != before {
					t.Fatalf("from %v up to %v", before, p)
				}
				restored++
			default:
				t.Fatalf("level %v, room %v: from %v to %v", level, room, before, p)
			}
			if fine, kept := poorer(p, start, allowed); !fine || !kept {
				t.Fatalf("%v of %v, allowed %+v", p, start, allowed)
			}
			before = p
		}

		// Under permanent failure the cheapest is reached, and under permanent
		// calm the start, each within a bound.
		for range len(ladder) {
			g.Failed()
		}
		if g.Plan() != ladder[len(ladder)-1] {
			t.Fatalf("no end of failures: %v of %v", g.Plan(), ladder)
		}
		room = true
		rungs(g, calm(lastWait*(len(ladder)-1))...)
		if g.Plan() != start {
			t.Fatalf("no end of calm: %v of %v", g.Plan(), ladder)
		}
		for range 2 * len(ladder) {
			g.Step(Critical)
		}
		if g.Plan() != ladder[len(ladder)-1] {
			t.Fatalf("no end of alerts: %v of %v", g.Plan(), ladder)
		}
	}
	t.Logf("%d reductions, %d undone", reduced, restored)
	if restored < 1000 || reduced < 1000 {
		t.Error("one kind is hardly tried")
	}
}
