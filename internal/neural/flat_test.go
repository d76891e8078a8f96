package neural

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
)

// resident returns the anonymous memory of this process in bytes, after all free memory was
// returned to the system. It returns 0 if the system does not report it.
func resident(e *Engine) int64 {
	e.giveBack()
	return memory.SelfStatus()["RssAnon"]
}

// TestMemoryIsFlat checks that over 80 windows, 200 in a long run, memory stays within 5 %
// of its value after all networks have run, and falls when the engine is closed. It runs
// in a separate process, in which no other test leaves memory.
func TestMemoryIsFlat(t *testing.T) {
	onEachEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		if !backendtest.InChild(t) {
			return
		}
		picture, fc := portrait(t)
		o := job(t, b.Backend) // not the cached one, which leaves sessions open
		o.Plan.Frames, o.Overlap, o.Steps, o.Guidance = 2, 0, 1, 1
		if o.recipe == recipe(museTalk{}) {
			o.Plan.Frames = 1 // its images are larger
		}
		e, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		last := int64(80)
		if long() {
			last = 200
		}
		var early, least, most int64
		items := shotOf(picture, fc, 0, int64(o.Plan.Frames), 3)
		for windows := int64(0); windows < last; windows++ {
			for i := range items { // the frames are reused, as in a pool
				items[i].Frame.Index = windows*int64(len(items)) + int64(i)
				if _, err := e.Push(t.Context(), lip.Item{Frame: items[i].Frame, Face: items[i].Face}); err != nil {
					t.Fatal(err)
				}
			}
			if windows < 20 || windows%20 != 0 {
				continue
			}
			now := resident(e)
			if now == 0 {
				t.Skip("the system does not report it")
			}
			if early == 0 {
				early, least, most = now, now, now
			}
			least, most = min(least, now), max(most, now)
		}
		if got := calls(e, workWindow); got != last {
			t.Fatalf("%d windows", got)
		}
		t.Logf("%d MB after 20 windows, %d to %d MB up to %d", early>>20, least>>20, most>>20, last)
		if most > early/20*21 || least < early/20*19 {
			t.Errorf("memory goes from %d to between %d and %d", early, least, most)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if after := resident(e); after > early-early/20 {
			t.Errorf("%d MB are left after Close", after>>20)
		}
	})
}
