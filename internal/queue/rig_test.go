package queue

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
)

// open starts a queue in a folder. By default no lease expires during a test,
// however slow the machine is, and nobody waits between two attempts to find work.
func open(t *testing.T, o Options) *Queue {
	t.Helper()
	o.Lead, o.Version = true, "v1"
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Lease == 0 {
		o.Lease = time.Hour
	}
	q, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	q.poll, q.pause = time.Millisecond, time.Millisecond
	return q
}

func submit(t *testing.T, q *Queue, p Priority) Job {
	t.Helper()
	j, err := q.Submit(t.Context(), Job{ID: NewID(), Priority: p, Engine: "preview"})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func mustTake(t *testing.T, q *Queue, worker string) *Lease {
	t.Helper()
	l, err := q.Take(t.Context(), worker, []string{"preview"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// until waits for a state: only the time limit of the test ends it otherwise.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
		time.Sleep(time.Millisecond)
	}
}

// messages counts the messages that wait in the lines of the preview engine, and
// those that are handed out and not acknowledged.
func messages(t *testing.T, q *Queue) (pending uint64, taken int) {
	t.Helper()
	for _, p := range priorities {
		i, err := q.lines["preview."+string(p)].Info(t.Context())
		check(t, err)
		pending, taken = pending+i.NumPending, taken+i.NumAckPending
	}
	return pending, taken
}

// nothing checks that no task is left except those that are leased.
func nothing(t *testing.T, q *Queue, leased int) {
	t.Helper()
	until(t, func() bool {
		l, err := q.first(t.Context(), "w", []string{"preview"})
		check(t, err)
		if l != nil {
			t.Fatalf("took task %d of job %s: %+v", l.Index, l.Job.ID, l.Task())
		}
		pending, taken := messages(t, q)
		return pending == 0 && taken == leased
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func state(t *testing.T, q *Queue, id string, want State) Job {
	t.Helper()
	j, err := q.Job(t.Context(), id)
	check(t, err)
	if j.State != want {
		t.Fatalf("job is %s, not %s: %+v", j.State, want, j)
	}
	return j
}

// untilState looks for work until a job has a state: a look also ends jobs whose
// worker is lost.
func untilState(t *testing.T, q *Queue, id string, want State) Job {
	t.Helper()
	until(t, func() bool {
		l, err := q.first(t.Context(), "w", []string{"preview"})
		check(t, err)
		if l != nil {
			t.Fatalf("took a task of a job that should end: %+v", l.Job)
		}
		j, err := q.Job(t.Context(), id)
		check(t, err)
		return j.State == want
	})
	return state(t, q, id, want)
}

// log reads a job's events to their end.
func log(t *testing.T, q *Queue, id string, after uint64) (types []string, last uint64) {
	t.Helper()
	check(t, q.Events(t.Context(), id, after, func(e Event) error {
		var v lipstream.Event
		check(t, json.Unmarshal(e.Data, &v))
		types, last = append(types, v.Type), e.Sequence
		return nil
	}))
	check(t, t.Context().Err())
	return types, last
}
