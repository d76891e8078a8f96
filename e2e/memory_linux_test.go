package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/tools/bench/cgroup"
)

// TestMemoryLimit runs jobs in a real control group: the kernel would kill a job
// that took more than its limit.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	models := tinyModels(t, "latentsync")
	for _, c := range []struct {
		name  string
		limit int64
		args  []string
		code  int
		text  string
	}{
		{"from the flag", 500e6, []string{"--memory-limit", "500MB"}, 0, ""},
		{"from the group", 500e6, nil, 0, ""},
		{"too little", 500e6, []string{"--memory-limit", "150MB"}, 7, "may use only 143.1 MiB (--memory-limit)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := cgroup.New(c.limit)
			if fault.KindOf(err) == fault.Missing {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			}()
			dir := newJob(t, t.TempDir()).dir // with its folders
			args := append([]string{"run", "--video", in("head.mp4"), "--audio", in("short.wav"), "--length", "shortest", "-o", "out.mp4", "--resume", "never", "--report", "report.json",
				"--engine", "latentsync", "--models", models, "--resolution", "128", "--steps", "1"}, c.args...)
			cmd := g.Command(binary, args...)
			var stderr bytes.Buffer
			cmd.Dir, cmd.Env, cmd.Stderr = dir, environment(dir, newMark()), &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			var most int64
			for running := true; running; {
				select {
				case err = <-done:
					running = false
				case <-time.After(50 * time.Millisecond):
				}
				if u, err := g.Usage(); err == nil {
					most = max(most, u.Anonymous)
					if u.Swap > 0 {
						t.Errorf("%d bytes in swap", u.Swap)
					}
				}
			}
			code := 0
			if x, ok := errors.AsType[*exec.ExitError](err); ok {
				code = x.ExitCode()
			}
			t.Logf("exit code %d, at most %d MB anonymous", code, most/1e6)
			if code != c.code || !strings.Contains(stderr.String(), c.text) {
				t.Errorf("exit code %d: %s", code, &stderr)
			}
			// The readings above may miss the peak; the job's own report does not.
			var report lipstream.Report
			if data, err := os.ReadFile(filepath.Join(dir, "report.json")); err != nil || json.Unmarshal(data, &report) != nil {
				t.Errorf("report: %v: %s", err, data)
			}
			peak := report.Memory.PeakAnonymous
			if most >= c.limit || peak >= c.limit || code == 0 && peak < 50e6 {
				t.Errorf("%d bytes anonymous, %d in the report; the limit is %d", most, peak, c.limit)
			}
			if _, err := os.Stat(filepath.Join(dir, "out.mp4")); (err == nil) != (c.code == 0) {
				t.Errorf("output: %v", err)
			}
		})
	}
}
