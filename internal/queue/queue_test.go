package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/fault"
)

func TestJobFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	if j.State != Queued || j.Priority != Normal || j.Created.IsZero() {
		t.Errorf("%+v", j)
	}
	l := mustTake(t, q, "w1")
	if l.Job.ID != j.ID || l.Task().Kind != KindWhole || l.Task().Attempts != 1 {
		t.Fatalf("%+v", l.Job)
	}
	state(t, q, j.ID, Running)
	check(t, l.Event(t.Context(), lipstream.Event{Type: lipstream.EventStart, Output: "/secret/path"}))
	check(t, l.Event(t.Context(), lipstream.Event{Type: lipstream.EventProgress, Frame: 7}))
	check(t, l.Event(t.Context(), lipstream.Event{Type: lipstream.EventDone})) // the queue's to say
	check(t, l.Frame(t.Context(), Frame{Index: 7, JPEG: []byte("jpeg")}))
	if f, err := q.Frame(t.Context(), j.ID); err != nil || f.Index != 7 || string(f.JPEG) != "jpeg" {
		t.Errorf("%+v, %v", f, err)
	}
	nothing(t, q, 1)
	check(t, l.Done(l.Context(), Result{Object: "o", Name: "a.mp4", Frames: 9})) // with its own context, as a worker does
	if j = state(t, q, j.ID, Done); j.Result.Frames != 9 || j.Ended.IsZero() || j.Tasks[0].State != Done {
		t.Errorf("%+v", j)
	}
	types, last := log(t, q, j.ID, 0)
	if got := strings.Join(types, " "); got != "start progress done" {
		t.Errorf("events: %s", got)
	}
	if types, _ := log(t, q, j.ID, last-1); len(types) != 1 || types[0] != "done" {
		t.Errorf("resumed: %v", types)
	}
	if types, _ := log(t, q, j.ID, last); len(types) != 0 {
		t.Errorf("after the end: %v", types)
	}
	check(t, q.Events(t.Context(), j.ID, 0, func(e Event) error {
		if strings.Contains(string(e.Data), "secret") {
			t.Errorf("a worker's path is told: %s", e.Data)
		}
		return nil
	}))
	if _, err := q.Retry(t.Context(), j.ID); err == nil {
		t.Error("a job that is done was begun anew")
	}
	check(t, q.Remove(t.Context(), j.ID))
	if _, err := q.Job(t.Context(), j.ID); !errors.Is(err, ErrNoJob) {
		t.Error(err)
	}
	nothing(t, q, 0)
}

// untilPending waits until the server can hand out n tasks. A task that was just
// queued is not handed out at once, so a later one of a lower priority may come first.
func untilPending(t *testing.T, q *Queue, n uint64) {
	t.Helper()
	until(t, func() bool { pending, _ := messages(t, q); return pending == n })
}

func TestPriorities(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	low, normal, high, second := submit(t, q, Low), submit(t, q, Normal), submit(t, q, High), submit(t, q, High)
	untilPending(t, q, 4)
	for _, want := range []Job{high, second, normal, low} {
		l := mustTake(t, q, "w")
		if l.Job.ID != want.ID {
			t.Errorf("took %s before %s", l.Job.Priority, want.Priority)
		}
		check(t, l.Done(t.Context(), Result{}))
	}
	if _, err := q.Submit(t.Context(), Job{ID: NewID(), Priority: "urgent", Engine: "preview"}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	if _, err := q.Submit(t.Context(), Job{ID: "../../etc > *", Engine: "preview"}); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
}

// abandon leaves a lease as a killed worker does: nobody keeps it alive or gives it
// back.
func abandon(l *Lease) {
	l.cancel(errors.New("killed"))
	<-l.done
}

// lose abandons a lease and has its message handed out again, as if the time of
// the lease were over.
func lose(t *testing.T, l *Lease) {
	t.Helper()
	abandon(l)
	if err := l.m.Nak(); err != nil {
		t.Error(err)
	}
}

// TestLeaseExpires uses the clock of the server: a task whose worker is silent is
// handed out again.
func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Lease: minLease})
	j := submit(t, q, "")
	abandon(mustTake(t, q, "w1"))
	if l := mustTake(t, q, "w2"); l.Job.ID != j.ID || l.Task().Attempts != 2 || l.Task().Worker != "w2" {
		t.Errorf("%+v", l.Job)
	}
}

// TestLeaseIsKept checks that a worker with a task reports that it is alive.
func TestLeaseIsKept(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	q.beat = time.Millisecond
	submit(t, q, "")
	l := mustTake(t, q, "w")
	beats, err := q.nc.SubscribeSync(l.m.Reply())
	check(t, err)
	for range 3 {
		m, err := beats.NextMsgWithContext(t.Context())
		check(t, err)
		if string(m.Data) != "+WPI" { // work in progress
			t.Errorf("%q", m.Data)
		}
	}
}

func TestWorkerLost(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Attempts: 2})
	j := submit(t, q, "")
	first := mustTake(t, q, "w1")
	lose(t, first)
	second := mustTake(t, q, "w2")
	if second.Job.ID != j.ID || second.Task().Attempts != 2 {
		t.Fatalf("%+v", second.Job)
	}
	// The first worker was not dead after all, but its result does not count.
	if err := first.Done(t.Context(), Result{Object: "zombie"}); !errors.Is(err, ErrLost) {
		t.Errorf("zombie: %v", err)
	}
	if err := first.Fail(t.Context(), Problem{}, true); !errors.Is(err, ErrLost) {
		t.Errorf("zombie: %v", err)
	}
	lose(t, second)
	if j := untilState(t, q, j.ID, Failed); !j.Problem.Dead || !strings.Contains(j.Problem.Message, "2 attempts") || !strings.Contains(j.Problem.Message, "w2") {
		t.Errorf("%+v", j.Problem)
	}
	dead, err := q.js.Stream(t.Context(), deadStream)
	check(t, err)
	if m, err := dead.GetLastMsgForSubject(t.Context(), deadSubject+j.ID); err != nil || !strings.Contains(string(m.Data), `"dead":true`) {
		t.Errorf("%+v, %v", m, err)
	}
	if types, _ := log(t, q, j.ID, 0); types[len(types)-1] != "error" {
		t.Errorf("%v", types)
	}
	// The operator repairs the workers and retries.
	if j, err = q.Retry(t.Context(), j.ID); err != nil || j.State != Queued || j.Tasks[0].Attempts != 0 {
		t.Fatalf("%+v, %v", j, err)
	}
	l := mustTake(t, q, "w3")
	check(t, l.Done(t.Context(), Result{Object: "right"}))
	if j = state(t, q, j.ID, Done); j.Result.Object != "right" || j.Problem != nil {
		t.Errorf("%+v", j)
	}
	if types, _ := log(t, q, j.ID, 0); strings.Join(types, " ") != "done" {
		t.Errorf("%v", types)
	}
}

func TestLeaseNotices(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	l := mustTake(t, q, "w1")
	_, err := q.change(t.Context(), j.ID, func(j *Job) error { j.Tasks[0].Lease = "other"; return nil })
	check(t, err)
	<-l.Context().Done()
	if !errors.Is(context.Cause(l.Context()), ErrLost) {
		t.Error(context.Cause(l.Context()))
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Attempts: 2})
	bad := submit(t, q, "")
	check(t, mustTake(t, q, "w").Fail(t.Context(), Problem{Message: "no video", Hint: "h", ExitCode: 3}, false))
	if j := state(t, q, bad.ID, Failed); j.Problem.Dead || j.Problem.Message != "no video" {
		t.Errorf("%+v", j.Problem)
	}
	flaky := submit(t, q, "")
	check(t, mustTake(t, q, "w").Fail(t.Context(), Problem{Message: "oops", ExitCode: 1}, true))
	l := mustTake(t, q, "w")
	if l.Job.ID != flaky.ID {
		t.Fatal("another job")
	}
	check(t, l.Fail(t.Context(), Problem{Message: "oops", ExitCode: 1}, true))
	if j := state(t, q, flaky.ID, Failed); !j.Problem.Dead || !strings.Contains(j.Problem.Message, "oops") {
		t.Errorf("%+v", j.Problem)
	}
	if types, _ := log(t, q, flaky.ID, 0); strings.Join(types, " ") != "warning error" {
		t.Errorf("%v", types)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	waiting := submit(t, q, "")
	if j, err := q.Cancel(t.Context(), waiting.ID); err != nil || j.State != Cancelled {
		t.Fatalf("%+v, %v", j, err)
	}
	nothing(t, q, 0)
	if types, _ := log(t, q, waiting.ID, 0); strings.Join(types, " ") != "error" {
		t.Errorf("%v", types)
	}
	atWork := submit(t, q, "")
	l := mustTake(t, q, "w")
	if j, err := q.Cancel(t.Context(), atWork.ID); err != nil || j.State != Running || !j.Cancelling {
		t.Fatalf("%+v, %v", j, err)
	}
	<-l.Context().Done()
	if !errors.Is(context.Cause(l.Context()), ErrCancelled) {
		t.Error(context.Cause(l.Context()))
	}
	check(t, l.Cancelled(t.Context()))
	state(t, q, atWork.ID, Cancelled)
	// The same for a worker that was killed.
	orphan := submit(t, q, "")
	killed := mustTake(t, q, "w")
	abandon(killed)
	_, err := q.Cancel(t.Context(), orphan.ID)
	check(t, err)
	lose(t, killed)
	untilState(t, q, orphan.ID, Cancelled)
	if _, err := q.Retry(t.Context(), orphan.ID); err != nil {
		t.Error(err)
	}
	check(t, mustTake(t, q, "w").Done(t.Context(), Result{}))
}

func TestSplitAndJoin(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	check(t, mustTake(t, q, "w").Split(t.Context(), []Part{{0, 0, 50, 82}, {40, 50, 100, 132}, {90, 100, -1, -1}}))
	var leases []*Lease
	for range 3 {
		leases = append(leases, mustTake(t, q, "w"))
	}
	nothing(t, q, 3) // the join waits
	lose(t, leases[1])
	check(t, leases[0].DonePart(t.Context(), "p0", lipstream.Result{Frames: 50}))
	check(t, leases[2].DonePart(t.Context(), "p2", lipstream.Result{Frames: 11}))
	again := mustTake(t, q, "w2")
	if again.Index != 1 || again.Task().Part.From != 50 {
		t.Fatalf("not the part that was lost: %+v", again.Task())
	}
	ended, end := context.WithCancel(t.Context())
	end() // as the lease's own does as soon as the record no longer has it
	check(t, again.DonePart(ended, "p1", lipstream.Result{Frames: 50}))
	join := mustTake(t, q, "w2")
	if join.Task().Kind != KindJoin || join.Job.Tasks[1].Object != "p1" || join.Job.Tasks[0].Attempts != 1 {
		t.Fatalf("%+v", join.Job)
	}
	check(t, join.Release(t.Context()))
	join = mustTake(t, q, "w3")
	if join.Task().Attempts != 1 {
		t.Errorf("a task that was given back counts: %+v", join.Task())
	}
	check(t, join.Done(t.Context(), Result{Object: "r", Frames: 111}))
	state(t, q, j.ID, Done)
	nothing(t, q, 0)
}

// TestRetryKeepsParts checks that finished parts are not done again.
func TestRetryKeepsParts(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	check(t, mustTake(t, q, "w").Split(t.Context(), []Part{{0, 0, 50, 82}, {40, 50, -1, -1}}))
	a, b := mustTake(t, q, "w"), mustTake(t, q, "w")
	check(t, a.DonePart(t.Context(), "p0", lipstream.Result{Frames: 50}))
	check(t, b.Fail(t.Context(), Problem{Message: "x", ExitCode: 3}, false))
	_, err := q.Retry(t.Context(), j.ID)
	check(t, err)
	l := mustTake(t, q, "w")
	if l.Index != 1 || l.Job.Tasks[0].Object != "p0" {
		t.Fatalf("%+v", l.Job)
	}
	check(t, l.DonePart(t.Context(), "p1", lipstream.Result{Frames: 1}))
	check(t, mustTake(t, q, "w").Done(t.Context(), Result{}))
	state(t, q, j.ID, Done)
}

func TestOneServerOnAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	if _, err := Open(t.Context(), Options{Dir: dir, Lead: true}); fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "another lipstream uses it") {
		t.Error(err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := open(t, Options{Dir: dir, Lease: minLease})
	waiting, urgent := submit(t, q, Low), submit(t, q, High)
	untilPending(t, q, 2)
	l := mustTake(t, q, "w")
	if l.Job.ID != urgent.ID {
		t.Fatalf("took the job of low priority: %+v", l.Job)
	}
	check(t, l.Event(t.Context(), lipstream.Event{Type: lipstream.EventStart}))
	check(t, q.Close())
	q = open(t, Options{Dir: dir, Lease: minLease})
	state(t, q, waiting.ID, Queued)
	again := mustTake(t, q, "w")
	if again.Job.ID != l.Job.ID && again.Job.ID != waiting.ID {
		t.Fatalf("%+v", again.Job)
	}
	check(t, again.Done(t.Context(), Result{}))
	check(t, mustTake(t, q, "w").Done(t.Context(), Result{}))
	state(t, q, l.Job.ID, Done)
	state(t, q, waiting.ID, Done)
	if types, _ := log(t, q, l.Job.ID, 0); strings.Join(types, " ") != "start done" {
		t.Errorf("%v", types)
	}
}

func TestRemote(t *testing.T) {
	t.Parallel()
	lead := open(t, Options{Listen: "127.0.0.1:0", Token: "secret", Lease: 2 * time.Second, Attempts: 7})
	url := lead.Address()
	if _, err := Open(t.Context(), Options{URL: url, Token: "guess", Version: "v1"}); fault.KindOf(err) != fault.Missing {
		t.Errorf("wrong token: %v", err)
	}
	q, err := Open(t.Context(), Options{URL: url, Token: "secret", Version: "v2"})
	check(t, err)
	defer func() { check(t, q.Close()) }()
	if q.o.Lease != 2*time.Second || q.o.Attempts != 7 {
		t.Errorf("%+v", q.o)
	}
	check(t, q.Announce(t.Context(), Worker{ID: "w1", Engines: []string{"preview"}}))
	if all, err := lead.Workers(t.Context()); err != nil || len(all) != 1 || all[0].ID != "w1" || all[0].Seen.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
	check(t, lead.Share(t.Context(), "media", "objects:"))
	if s, err := q.Shared(t.Context(), "media"); err != nil || s != "objects:" {
		t.Errorf("%q, %v", s, err)
	}
	j := submit(t, lead, "")
	check(t, mustTake(t, q, "w1").Done(t.Context(), Result{}))
	state(t, lead, j.ID, Done)
	check(t, q.Leave(t.Context(), "w1"))
	if all, err := lead.Workers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestManyWorkers checks that every job is done once.
func TestManyWorkers(t *testing.T) {
	t.Parallel()
	q := open(t, Options{Attempts: 50})
	const jobs = 40
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ended sync.WaitGroup
	ended.Add(jobs)
	var mu sync.Mutex
	done := map[string]int{}
	go func() {
		seen := map[string]bool{}
		_ = q.Watch(ctx, func(id string, j *Job) {
			if j != nil && j.State == Done && !seen[id] {
				seen[id] = true
				ended.Done()
			}
		})
	}()
	for range jobs {
		submit(t, q, "")
	}
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			for i := 0; ; i++ {
				l, err := q.Take(ctx, "w", []string{"preview"})
				if err != nil {
					return
				}
				if (w+i)%5 == 0 { // killed
					lose(t, l)
					continue
				}
				if err := l.Done(t.Context(), Result{}); err == nil {
					mu.Lock()
					done[l.Job.ID]++
					mu.Unlock()
				}
			}
		})
	}
	ended.Wait()
	cancel()
	workers.Wait()
	for id, n := range done {
		if n != 1 {
			t.Errorf("job %s was done %d times", id, n)
		}
	}
	if len(done) != jobs {
		t.Errorf("%d of %d jobs", len(done), jobs)
	}
}
