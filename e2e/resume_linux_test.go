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
// and writes the same file as a job that is not stopped. In a long run, each engine gets
// both signals.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine   string
		settings []string
		signal   syscall.Signal
	}{
		{"latentsync", []string{"--resolution", "64", "--steps", "2"}, syscall.SIGINT},
		{"musetalk", []string{"--vae", "tiny"}, syscall.SIGKILL},
	} {
		signals := []syscall.Signal{tt.signal}
		if os.Getenv(longVariable) != "" {
			signals = []syscall.Signal{syscall.SIGKILL, syscall.SIGINT}
		}
		t.Run(tt.engine, func(t *testing.T) {
			testResume(t, signals, append(tt.settings, "--engine", tt.engine, "--models", tinyModels(t, tt.engine)))
		})
	}
}

func testResume(t *testing.T, signals []syscall.Signal, settings []string) {
	dir := t.TempDir()
	if err := ffmpeg(dir, "-i", in("one.wav"), "-t", "0.6", "voice.wav"); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--video", in("portrait.png"), "--audio", "voice.wav", "-o", "out.mp4", "--json", "-y", "--crf", "0", "--frames-per-window", "4"}, settings...)
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

	for _, sig := range signals {
		// A job that ends before the signal arrives is run again.
		for ended := false; !ended; {
			j := newJob(t, dir, args...).start()
			j.until("the second window", func(e lipstream.Event) bool { return e.Frame >= 5 })
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
