package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/testdata/demo"
)

// asTask is the environment variable that makes the test's binary a task's process.
const asTask = "LIPSTREAM_TEST_TASK"

func TestMain(m *testing.M) {
	if how := os.Getenv(asTask); how != "" {
		os.Exit(fakeTask(how))
	}
	os.Exit(m.Run())
}

// fakeTask is a process of a task that behaves as its environment says.
func fakeTask(how string) int {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	var r request
	if err != nil || json.Unmarshal(line, &r) != nil {
		return 9
	}
	out := json.NewEncoder(os.Stdout)
	switch how {
	case "crash":
		fmt.Fprintln(os.Stderr, "something\nfatal: it broke")
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		panic(err)
	case "refuse":
		_ = out.Encode(answer{Error: &queue.Problem{Message: "no face", ExitCode: 4, Hint: "h"}})
	case "hang":
		ended, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if runtime.GOOS == "windows" { // nobody sends it an interrupt
			go func() { _, _ = io.Copy(io.Discard, in); stop() }()
		}
		_ = out.Encode(answer{Event: &lipstream.Event{Type: lipstream.EventPhase, Phase: "frames"}})
		<-ended.Done()
	case "wait": // for a file
		_ = out.Encode(answer{Event: &lipstream.Event{Type: lipstream.EventPhase, Phase: "frames"}})
		for _, err := os.Stat(r.Job.Output + ".go"); err != nil; _, err = os.Stat(r.Job.Output + ".go") {
			time.Sleep(time.Millisecond)
		}
		if err := os.WriteFile(r.Job.Output, []byte("a video"), 0o600); err != nil {
			return 8
		}
		_ = out.Encode(answer{Result: &lipstream.Result{Output: r.Job.Output, Engine: "preview", Frames: 100, FPS: 25}})
	case "mask": // reports how long it is as the number of frames
		mask, err := os.ReadFile(r.Job.Mask)
		if err != nil || os.WriteFile(r.Job.Output, []byte("a video"), 0o600) != nil {
			return 8
		}
		_ = out.Encode(answer{Event: &lipstream.Event{Type: lipstream.EventWarning, Message: "look at " + r.Job.Mask}})
		_ = out.Encode(answer{Result: &lipstream.Result{Output: r.Job.Output, Engine: "preview", Frames: int64(len(mask)), FPS: 25}})
	case "stubborn": // does not hear the signal
		signal.Ignore(os.Interrupt)
		_ = out.Encode(answer{Event: &lipstream.Event{Type: lipstream.EventPhase, Phase: "frames"}})
		time.Sleep(1<<63 - 1) // a select without cases would be a deadlock
	default:
		for i := range 100 {
			_ = out.Encode(answer{Event: &lipstream.Event{Type: "progress", Phase: "frames", Frame: int64(i + 1), Frames: 100}})
		}
		_ = out.Encode(answer{Frame: &queue.Frame{Index: 7, JPEG: []byte("jpeg")}})
		if err := os.WriteFile(r.Job.Output, []byte("a video"), 0o600); err != nil {
			return 8
		}
		_ = out.Encode(answer{Result: &lipstream.Result{Output: r.Job.Output, Engine: "preview", Frames: 100, FPS: 25}})
	}
	return 0
}

// rig is a worker with a real queue.
type rig struct {
	t    *testing.T
	q    *queue.Queue
	w    *Worker
	s    *store.Store
	dir  string
	stop func() // drains
	end  context.CancelCauseFunc
}

func newRig(t *testing.T, how string, change func(*Options)) *rig {
	t.Helper()
	t.Setenv(asTask, how)
	dir := t.TempDir()
	q, err := queue.Open(t.Context(), queue.Options{Dir: filepath.Join(dir, "queue"), Lead: true, Version: lipstream.Version(), Lease: time.Hour, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	// A remote store, so that media are fetched.
	s, err := store.Open(t.Context(), "objects:", q.JetStream(), 1)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Queue: q, Store: s, Dir: filepath.Join(dir, "worker"), Engines: []string{"preview"}, Slots: 2, Command: []string{os.Args[0]}}
	if change != nil {
		change(&o)
	}
	w, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w.eventInterval = time.Hour
	if how == "stubborn" {
		w.stopGrace = time.Millisecond
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	r := &rig{t: t, q: q, w: w, s: s, dir: o.Dir, end: cancel}
	r.stop = func() {
		cancel(nil)
		<-ended
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) submit() queue.Job { return r.submitWith(func(*queue.Job) {}) }

func (r *rig) submitWith(change func(*queue.Job)) queue.Job {
	r.t.Helper()
	j := queue.Job{ID: queue.NewID(), Engine: "preview", Spec: queue.Spec{Name: "x.mp4", Split: -1},
		Video: queue.Media{Name: "face.png", Object: "uploads/face.png"}, Audio: queue.Media{Name: "v.wav", Object: "uploads/v.wav"}}
	change(&j)
	for object, content := range map[string][]byte{j.Video.Object: demo.Portrait, j.Audio.Object: demo.Speech} {
		if err := r.s.Put(r.t.Context(), object, strings.NewReader(string(content))); err != nil {
			r.t.Fatal(err)
		}
	}
	j, err := r.q.Submit(r.t.Context(), j)
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

func (r *rig) until(id string, ok func(queue.Job) bool) queue.Job {
	r.t.Helper()
	for {
		j, err := r.q.Job(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		if ok(j) {
			return j
		}
		time.Sleep(time.Millisecond)
	}
}

// began waits for the first event of a job: its process is at work.
func (r *rig) began(id string) {
	r.t.Helper()
	enough := errors.New("enough")
	if err := r.q.Events(r.t.Context(), id, 0, func(queue.Event) error { return enough }); !errors.Is(err, enough) {
		r.t.Fatal(err)
	}
}

func ended(j queue.Job) bool { return j.State.Ended() }

// nothingLeft checks the folders of tasks.
func (r *rig) nothingLeft() {
	r.t.Helper()
	left, err := os.ReadDir(filepath.Join(r.dir, "work"))
	if err != nil || len(left) > 0 {
		r.t.Errorf("left of tasks: %v, %v", left, err)
	}
}

func TestDone(t *testing.T) {
	r := newRig(t, "work", nil)
	j := r.submit()
	r.until(j.ID, ended)
	var progress, all int
	if err := r.q.Events(t.Context(), j.ID, 0, func(e queue.Event) error {
		all++
		if strings.Contains(string(e.Data), `"progress"`) {
			progress++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// Of a hundred events within the interval, only the first and the last.
	if progress != 2 || all != 3 {
		t.Errorf("%d progress events of %d", progress, all)
	}
	j = r.until(j.ID, ended)
	if j.State != queue.Done || j.Result.Frames != 100 || j.Result.Duration != 4 || j.Result.Name != "x.mp4" || j.Result.Size != 7 ||
		j.Result.SHA256 != "3dbe53a2de431feaea25139a6ea5eb705629d3fb419181298046d78d55acb055" {
		t.Errorf("%+v", j.Result)
	}
	o, _, err := r.s.Open(t.Context(), j.Result.Object)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(o); err != nil || string(b) != "a video" {
		t.Errorf("%q, %v", b, err)
	}
	if f, err := r.q.Frame(t.Context(), j.ID); err != nil || f.Index != 7 {
		t.Errorf("%+v, %v", f, err)
	}
	r.stop()
	if w, err := r.q.Workers(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("%+v, %v", w, err)
	}
	r.nothingLeft()
}

func TestCrash(t *testing.T) {
	end := "killed by signal 9"
	if runtime.GOOS == "windows" {
		end = "failed with exit code 1"
	}
	r := newRig(t, "crash", nil)
	j := r.until(r.submit().ID, ended)
	if j.State != queue.Failed || !j.Problem.Dead || j.Tasks[0].Attempts != 2 ||
		!strings.Contains(j.Problem.Message, end) || !strings.Contains(j.Problem.Message, "fatal: it broke") {
		t.Errorf("%+v %+v", j.Problem, j.Tasks)
	}
	r.nothingLeft()
}

func TestRefused(t *testing.T) {
	r := newRig(t, "refuse", nil)
	j := r.until(r.submit().ID, ended)
	if j.State != queue.Failed || j.Problem.Dead || j.Tasks[0].Attempts != 1 || j.Problem.Message != "no face" || j.Problem.ExitCode != 4 {
		t.Errorf("%+v %+v", j.Problem, j.Tasks)
	}
}

func TestCancel(t *testing.T) {
	for _, how := range []string{"hang", "stubborn"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, how, nil)
			j := r.submit()
			r.began(j.ID)
			if _, err := r.q.Cancel(t.Context(), j.ID); err != nil {
				t.Fatal(err)
			}
			if j := r.until(j.ID, ended); j.State != queue.Cancelled {
				t.Errorf("%+v", j)
			}
			r.stop()
			r.nothingLeft()
		})
	}
}

// TestDrain checks that a worker that ends gives back its running tasks, after the grace
// or at once.
func TestDrain(t *testing.T) {
	testDrain(t, newRig(t, "hang", func(o *Options) { o.Grace = 100 * time.Millisecond }), nil)
	testDrain(t, newRig(t, "hang", func(o *Options) { o.Grace = 24 * time.Hour }), ErrHurry)
}

func testDrain(t *testing.T, r *rig, cause error) {
	j := r.submit()
	r.until(j.ID, func(j queue.Job) bool { return j.State == queue.Running })
	r.end(cause)
	r.stop()
	if j := r.until(j.ID, func(queue.Job) bool { return true }); j.State != queue.Queued || j.Tasks[0].Attempts != 0 {
		t.Errorf("%+v", j)
	}
	r.nothingLeft()
}

// TestGrace checks that a worker that ends finishes its task within the grace, and takes
// no other.
func TestGrace(t *testing.T) {
	r := newRig(t, "wait", func(o *Options) { o.Grace, o.Slots = time.Hour, 1 })
	j := r.submit()
	r.until(j.ID, func(j queue.Job) bool { return j.State == queue.Running })
	t.Cleanup(func() { r.end(ErrHurry) }) // if the test fails, nobody waits for the grace
	waiting := r.submit()
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	for !r.w.Info().Draining {
		time.Sleep(time.Millisecond)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "work", j.ID+"-0", "output.mp4.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-stopped
	if j := r.until(j.ID, func(queue.Job) bool { return true }); j.State != queue.Done || j.Tasks[0].Attempts != 1 {
		t.Errorf("%+v", j)
	}
	if j := r.until(waiting.ID, func(queue.Job) bool { return true }); j.State != queue.Queued || j.Tasks[0].Attempts != 0 {
		t.Errorf("the worker took another task: %+v", j)
	}
	r.nothingLeft()
}

// TestMemory checks that a second task waits if the memory is enough for only one.
func TestMemory(t *testing.T) {
	r := newRig(t, "hang", func(o *Options) { o.Memory = 600 << 20 })
	atWork := make(chan string, 10)
	listening := make(chan error, 2)
	a, b := r.submit(), r.submit()
	for _, j := range []queue.Job{a, b} {
		go func() {
			first := true
			listening <- r.q.Events(t.Context(), j.ID, 0, func(queue.Event) error {
				if first {
					atWork <- j.ID
				}
				first = false
				return nil
			})
		}()
	}
	first := <-atWork
	for r.w.memory.TryAcquire(1) { // it fails only while somebody waits: there is room for 1 byte
		r.w.memory.Release(1)
		time.Sleep(time.Millisecond)
	}
	if reserved := r.w.Info().Reserved; reserved < previewBytes || reserved >= 2*previewBytes {
		t.Errorf("%d bytes are reserved for one task", reserved)
	}
	select {
	case id := <-atWork:
		t.Errorf("job %s is at work beside %s", id, first)
	default:
	}
	if _, err := r.q.Cancel(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if second := <-atWork; second == first {
		t.Error("the first job began twice")
	}
}

func TestOneFolderOneWorker(t *testing.T) {
	r := newRig(t, "hang", nil)
	_, err := New(t.Context(), Options{Queue: r.q, Store: r.s, Dir: r.dir, Engines: []string{"preview"}, Command: []string{os.Args[0]}})
	if err == nil || !strings.Contains(err.Error(), "another lipstream uses it") {
		t.Error(err)
	}
}
