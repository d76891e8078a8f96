package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
)

// TestInterruptLatentSync interrupts a job while it loads and while it
// denoises. A graph that compiles cannot be stopped: hence the longer limit.
// The voice is in a temporary file then, which has no name: nothing is left
// even by a job that is killed.
func TestInterruptLatentSync(t *testing.T) {
	dir := synthModels(t)
	models := filepath.Join(dir, "m")
	args := longJob("--engine", "latentsync", "--models", models, "--resolution", "128", "--steps", "100")
	limit := max(2*time.Second, stopLimit)
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
			sent := time.Now()
			if err := j.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			<-j.done
			if took := time.Since(sent); took > limit {
				t.Errorf("it took %v to stop", took)
			}
			j.fails(130, "lipstream: interrupted\n")
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

// needSpool makes sure that the voice is where the test says it is: in a file
// of the temporary folder that has no name any more.
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
