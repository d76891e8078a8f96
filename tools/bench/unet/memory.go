package unet

import (
	"os"
	"time"

	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// memoryStatus returns a figure of /proc/self/status in bytes, or 0.
func memoryStatus(field string) int64 { return memory.SelfStatus()[field] }

// resetPeak sets VmHWM to what is resident now (proc_pid_clear_refs(5)).
func resetPeak() {
	// Where this fails, the peak is that of everything before, too.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// watchAnonymous samples RssAnon every 50 ms, as tools/bench/peers/measure.py
// does, because the kernel keeps no peak of it. stop returns the peak; it may be
// called more than once.
func watchAnonymous() (stop func() int64) {
	var peak int64
	end := lab.Sample(50*time.Millisecond, func() { peak = max(peak, memoryStatus("RssAnon")) })
	return func() int64 {
		end()
		return peak
	}
}
