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

// TestResume kills a job in the middle of its windows. The same command goes on
// from the last one that was finished, removes what the killed one left, and
// makes the file that a job makes which nobody kills.
func TestResume(t *testing.T) {
	models := filepath.Join(synthModels(t), "m")
	dir := t.TempDir()
	args := []string{"run", "--video", in("portrait.png"), "--audio", in("two.wav"), "-o", "out.mp4", "--json", "-y",
		"--engine", "latentsync", "--models", models, "--resolution", "128", "--steps", "8", "--crf", "0", "--frames-per-window", "8"}
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
		j := newJob(t, dir, args...).start()
		j.until("the fourth window", func(e lipstream.Event) bool { return e.Frame >= 12 })
		if err := j.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		<-j.done
		if left, err := os.ReadDir(jobs); err != nil || len(left) != 1 {
			t.Fatalf("%v: in the folder of jobs: %v, %v", sig, left, err)
		}
		report := filepath.Join(dir, "report.json")
		j, again := run("--report", report)
		if string(again) != string(whole) {
			t.Errorf("%v: the video is another than that of a job that nobody stops", sig)
		}
		if text := said(j); !strings.Contains(text, "goes on with what an interrupted run has left") {
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
