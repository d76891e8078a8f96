package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream"
)

// TestInterruptLatentSync interrupts a job while it loads networks and while it
// denoises. While it denoises, the voice is in a temporary file without a name,
// so that not even a killed job leaves it behind.
func TestInterruptLatentSync(t *testing.T) {
	t.Parallel()
	args := longJob("--engine", "latentsync", "--models", tinyModels(t, "latentsync"), "--resolution", "64", "--steps", "100")
	denoising := func(e lipstream.Event) bool { return e.Step >= 3 }
	for stage, ready := range map[string]func(lipstream.Event) bool{
		"load":    func(e lipstream.Event) bool { return e.Phase == lipstream.PhaseLoad },
		"denoise": denoising,
	} {
		t.Run(stage, func(t *testing.T) {
			j := newJob(t, t.TempDir(), args...).start()
			j.until(stage, ready)
			if stage == "denoise" {
				j.needSpool()
			}
			j.interrupt(os.Interrupt)
		})
	}
	t.Run("killed", func(t *testing.T) {
		j := newJob(t, t.TempDir(), args...).start()
		j.until("denoise", denoising)
		if err := j.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-j.done
		left, err := os.ReadDir(filepath.Join(j.dir, ".tmp"))
		if err != nil || len(left) > 0 {
			t.Errorf("left in the temporary folder: %v, %v", left, err)
		}
	})
}

// needSpool checks that the job has an open file without a name in its
// temporary folder.
func (j *job) needSpool() {
	j.t.Helper()
	tmp := filepath.Join(j.dir, ".tmp")
	names, err := filepath.Glob("/proc/" + strconv.Itoa(j.cmd.Process.Pid) + "/fd/*")
	if err != nil {
		j.t.Fatal(err)
	}
	for _, name := range names {
		target, err := os.Readlink(name)
		if err == nil && strings.HasPrefix(target, tmp) && strings.HasSuffix(target, " (deleted)") {
			return
		}
	}
	j.t.Errorf("no open file without a name in %s", tmp)
}
