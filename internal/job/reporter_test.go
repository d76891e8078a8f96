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
		r.expect(10)
		r.phase(PhaseFrames)
		r.step(1, 2)
		if last.Type != EventPhase || last.Steps != 0 {
			t.Errorf("a step is sent at once: %+v", last)
		}
		time.Sleep(reportInterval)
		synctest.Wait()
		if last.Type != EventProgress || last.Phase != PhaseFrames || last.Frame != 0 || last.Step != 1 || last.Steps != 2 {
			t.Errorf("after the first step: %+v", last)
		}
		r.step(2, 2)
		r.phase(PhaseFinish)
		if last.Type != EventPhase || last.Step != 2 || last.Steps != 2 {
			t.Errorf("after the last step: %+v", last)
		}
		r.end(&Result{Frames: 10}, nil)
	})
}
