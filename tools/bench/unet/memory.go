package unet

import (
	"os"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/memory"
)

// memoryStatus returns a figure of /proc/self/status in bytes, or 0.
func memoryStatus(field string) int64 { return memory.SelfStatus(field)[field] }

// resetPeak sets VmHWM to what is resident now (proc_pid_clear_refs(5)).
func resetPeak() {
	// Where this fails, the peak is that of everything before, too.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// anonymousPeak samples RssAnon every 50 ms, as tools/bench/peers/measure.py does;
// the kernel keeps no peak of it.
type anonymousPeak struct {
	peak int64
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup
}

func watchAnonymous() *anonymousPeak {
	a := &anonymousPeak{quit: make(chan struct{})}
	a.done.Go(func() {
		for {
			a.peak = max(a.peak, memoryStatus("RssAnon"))
			select {
			case <-a.quit:
				a.peak = max(a.peak, memoryStatus("RssAnon"))
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return a
}

// stop ends the sampling and returns the peak. It may be called more than once.
func (a *anonymousPeak) stop() int64 {
	a.once.Do(func() { close(a.quit) })
	a.done.Wait()
	return a.peak
}
