package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	gopsutil "github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream"
)

// job is a run of lipstream that a test interferes with.
type job struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // its working directory; outputs and temporary files are below
	mark   string
	before map[string]string
	stderr *bytes.Buffer
	events chan lipstream.Event // closed at the end of standard output
	done   chan struct{}        // closed when the process was reaped
	err    error                // how it ended; read after done
}

var marks atomic.Int64

// newMark returns a unique text for the environment of one job.
func newMark() string {
	return fmt.Sprintf("%d-%d", os.Getpid(), marks.Add(1))
}

// makeHome creates the folders that environment names.
func makeHome(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{".home", ".cache", ".tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// newJob prepares a run of lipstream with args in dir.
func newJob(t *testing.T, dir string, args ...string) *job {
	t.Helper()
	needRuntime(t)
	j := &job{t: t, dir: dir, mark: newMark(), stderr: &bytes.Buffer{}, events: make(chan lipstream.Event, 10_000), done: make(chan struct{})}
	makeHome(t, dir)
	var err error
	if j.before, err = listing(dir); err != nil {
		t.Fatal(err)
	}
	j.cmd = exec.Command(binary, args...)
	j.cmd.Dir, j.cmd.Env, j.cmd.Stderr = dir, environment(dir, j.mark), j.stderr
	ownGroup(j.cmd)
	return j
}

// start starts the job. With --json among its arguments, events reports its
// progress.
func (j *job) start() *job {
	j.t.Helper()
	out, err := j.cmd.StdoutPipe()
	if err == nil {
		err = j.cmd.Start()
	}
	if err != nil {
		j.t.Fatal(err)
	}
	go func() {
		defer close(j.done)
		defer close(j.events)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e lipstream.Event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				j.events <- e
			}
		}
		_, _ = io.Copy(io.Discard, out)
		j.err = j.cmd.Wait()
	}()
	j.t.Cleanup(func() {
		_ = j.cmd.Process.Kill()
		<-j.done
	})
	return j
}

// until waits for the first event that satisfies ok.
func (j *job) until(what string, ok func(lipstream.Event) bool) {
	j.t.Helper()
	for e := range j.events {
		if ok(e) {
			return
		}
	}
	<-j.done
	j.t.Fatalf("the job ended before %s: %v: %s", what, j.err, j.stderr)
}

// untilFrame waits until frames are encoded: all stages are running.
func (j *job) untilFrame() {
	j.t.Helper()
	j.until("frame 5", func(e lipstream.Event) bool { return e.Frame >= 5 })
}

// fails waits for the end of the job and checks its exit code, that its message
// is well formed and contains the texts, and that it leaves no file and no child.
func (j *job) fails(code int, texts ...string) {
	j.t.Helper()
	<-j.done
	got, err := exitOf(j.err)
	if err != nil {
		j.t.Fatal(err)
	}
	if got != code {
		j.t.Errorf("exit code %d instead of %d: %v", got, code, j.err)
	}
	stderr := j.stderr.String()
	if err := checkMessage(stderr); err != nil {
		j.t.Error(err)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			j.t.Errorf("%q is not in the message %q", text, stderr)
		}
	}
	j.leavesNothing()
}

func (j *job) leavesNothing() {
	j.t.Helper()
	if left := children(j.mark); len(left) > 0 {
		j.t.Errorf("left running: %v", left)
	}
	after, err := listing(j.dir)
	if err != nil {
		j.t.Fatal(err)
	}
	if d := difference(j.before, after); d != "" {
		j.t.Errorf("left behind:\n%s", d)
	}
}

// process is a process found by its mark.
type process struct {
	pid  int
	args []string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, strings.Join(p.args, " ")) }

// children returns all running processes with the mark.
func children(mark string) []process {
	var out []process
	all, _ := gopsutil.Processes()
	for _, p := range all {
		env, err := p.Environ()
		if err != nil || !slices.Contains(env, markVariable+"="+mark) {
			continue // it has ended, or it belongs to somebody else
		}
		if args, err := p.CmdlineSlice(); err == nil && len(args) > 0 {
			out = append(out, process{int(p.Pid), args})
		}
	}
	return out
}

// child returns the only ffmpeg of the job that has arg in its command line.
func (j *job) child(arg string) process {
	j.t.Helper()
	var found []process
	for _, p := range children(j.mark) {
		if strings.TrimSuffix(filepath.Base(p.args[0]), ".exe") == "ffmpeg" && slices.Contains(p.args, arg) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		j.t.Fatalf("%d children with %s: %v; all: %v", len(found), arg, found, children(j.mark))
	}
	return found[0]
}

// longJob returns the arguments of a job of 1500 frames.
func longJob(extra ...string) []string {
	return append([]string{"run", "--video", in("long.mp4"), "--audio", in("long.wav"), "-o", "out.mp4", "--json"}, extra...)
}

// TestKilled kills lipstream itself: its children have to end as well. The
// hidden file beside the output stays, because nobody is left to remove it.
func TestKilled(t *testing.T) {
	t.Parallel()
	j := newJob(t, t.TempDir(), longJob()...).start()
	j.untilFrame()
	if err := j.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-j.done
	waitUntil(t, func() bool { return len(children(j.mark)) == 0 })
	if _, err := os.Stat(filepath.Join(j.dir, "out.mp4")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is an output: %v", err)
	}
}

// TestSameOutput runs two jobs with the same output at once: only one of them
// may write it.
func TestSameOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "out.mp4", "-q", "--length", "shortest"}
	jobs := []*job{newJob(t, dir, args...).start(), newJob(t, dir, args...).start()}
	var good, bad int
	for _, j := range jobs {
		<-j.done
		switch code, err := exitOf(j.err); {
		case err != nil:
			t.Fatal(err)
		case code == 0:
			good++
		case code == 6 && strings.Contains(j.stderr.String(), "exists"):
			bad++
		default:
			t.Errorf("exit code %d: %s", code, j.stderr)
		}
	}
	if good != 1 || bad != 1 {
		t.Errorf("%d jobs succeeded and %d were refused", good, bad)
	}
	files, err := listing(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}
