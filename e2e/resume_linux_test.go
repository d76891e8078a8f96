package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream"
)

// TestResume stops a job in the middle of its windows. The same command resumes
// after the last finished window, removes the files that the stopped job left,
// and writes the same file as a job that is not stopped.
func TestResume(t *testing.T) {
	t.Parallel()
	for engine, args := range map[string][]string{
		"latentsync": {"--resolution", "64", "--steps", "2"},
		"musetalk":   {"--vae", "tiny"},
	} {
		t.Run(engine, func(t *testing.T) { testResume(t, append(args, "--engine", engine, "--models", tinyModels(t, engine))) })
	}
}

func testResume(t *testing.T, settings []string) {
	dir := t.TempDir()
	args := append([]string{"run", "--video", in("portrait.png"), "--audio", in("one.wav"), "-o", "out.mp4", "--json", "-y", "--crf", "0", "--frames-per-window", "8"}, settings...)
	run := func(extra ...string) (*job, []byte) {
		j := newJob(t, dir, append(args, extra...)...).start()
		<-j.done
		if j.err != nil {
			t.Fatalf("%v: %s", j.err, j.stderr)
		}
		video, err := os.ReadFile(filepath.Join(dir, "out.mp4"))
		if err != nil {
			t.Fatal(err)
		}
		return j, video
	}
	said := func(j *job) (text string) {
		for e := range j.events {
			text += e.Message + "\n"
		}
		return text
	}
	jobs := filepath.Join(dir, ".cache", "lipstream", "jobs")
	empty := func() {
		t.Helper()
		if left, err := os.ReadDir(jobs); err != nil || len(left) > 0 {
			t.Errorf("left in the folder of jobs: %v, %v", left, err)
		}
	}
	_, whole := run("--resume", "never")

	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		// A job that ends before the signal arrives is run again.
		for ended := false; !ended; {
			j := newJob(t, dir, args...).start()
			j.until("the second window", func(e lipstream.Event) bool { return e.Frame >= 9 })
			_ = j.cmd.Process.Signal(sig)
			<-j.done
			ended = j.err != nil
		}
		if left, err := os.ReadDir(jobs); err != nil || len(left) != 1 {
			t.Fatalf("%v: in the folder of jobs: %v, %v", sig, left, err)
		}
		report := filepath.Join(dir, "report.json")
		j, again := run("--report", report)
		if string(again) != string(whole) {
			t.Errorf("%v: the video differs from that of a job that was not stopped", sig)
		}
		if text := said(j); !strings.Contains(text, "continues from what an interrupted run left") {
			t.Errorf("%v: said only %q", sig, text)
		}
		data, err := os.ReadFile(report)
		if err != nil || !regexp.MustCompile(`"name": ?"window of an earlier run",\s*"part": ?"engine",\s*"calls": ?[2-9]`).Match(data) {
			t.Errorf("%v: no windows of the earlier run: %v\n%s", sig, err, data)
		}
		empty()
		if hidden, err := filepath.Glob(filepath.Join(dir, ".out.*")); err != nil || len(hidden) > 0 {
			t.Errorf("%v: left beside the output: %v, %v", sig, hidden, err)
		}
	}
}
