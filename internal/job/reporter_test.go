package job

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressOfSteps checks that denoising steps show while no frame is finished, at the
// pace of the reporter.
func TestProgressOfSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last Event
		r := newReporter(t.Context(), ObserverFunc(func(e Event) { last = e }))
		seen := func() Event {
			r.mu.Lock() // held when the observer is called
			defer r.mu.Unlock()
			return last
		}
		r.expect(10)
		r.phase(PhaseFrames)
		r.step(1, 2)
		if e := seen(); e.Type != EventPhase || e.Steps != 0 {
			t.Errorf("a step is sent at once: %+v", e)
		}
		time.Sleep(reportInterval)
		synctest.Wait()
		if e := seen(); e.Type != EventProgress || e.Phase != PhaseFrames || e.Frame != 0 || e.Step != 1 || e.Steps != 2 {
			t.Errorf("after the first step: %+v", e)
		}
		r.step(2, 2)
		r.phase(PhaseFinish)
		if e := seen(); e.Type != EventPhase || e.Step != 2 || e.Steps != 2 {
			t.Errorf("after the last step: %+v", e)
		}
		r.end(&Result{Frames: 10}, nil)
	})
}
