package queue

import (
	"errors"
	"sync"
	"testing"
)

func once(q *Queue, t *testing.T, key, request string) (Job, bool, error) {
	return q.SubmitOnce(t.Context(), key, request, Job{ID: NewID(), Engine: "preview"})
}

func TestSubmitOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := open(t, Options{Dir: dir})
	if _, ok, err := q.Submitted(t.Context(), "k", "r"); ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	j, again, err := once(q, t, "k", "r")
	if err != nil || again {
		t.Fatalf("%v, %v", again, err)
	}
	if same, again, err := once(q, t, "k", "r"); err != nil || !again || same.ID != j.ID {
		t.Errorf("%+v, %v, %v", same, again, err)
	}
	if _, _, err := once(q, t, "k", "other"); !errors.Is(err, ErrKeyReused) {
		t.Error(err)
	}
	if other, again, err := once(q, t, "k2", "r"); err != nil || again || other.ID == j.ID {
		t.Errorf("%v, %v", again, err)
	}
	// The key outlives the server.
	check(t, q.Close())
	q = open(t, Options{Dir: dir})
	if same, ok, err := q.Submitted(t.Context(), "k", "r"); err != nil || !ok || same.ID != j.ID {
		t.Errorf("%+v, %v, %v", same, ok, err)
	}
	// And the job: otherwise a late retry would make it again.
	_, err = q.Cancel(t.Context(), j.ID)
	check(t, err)
	check(t, q.Remove(t.Context(), j.ID))
	if _, _, err := once(q, t, "k", "r"); !errors.Is(err, ErrKeyRemoved) {
		t.Error(err)
	}
}

// TestInterruptedKey continues a request whose server ended before it stored the job.
func TestInterruptedKey(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	id := NewID()
	_, err := q.keys.Create(t.Context(), keyName("k"), []byte(`{"request":"r","job":"`+id+`"}`))
	check(t, err)
	if _, ok, err := q.Submitted(t.Context(), "k", "r"); ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	if j, again, err := once(q, t, "k", "r"); err != nil || again || j.ID != id {
		t.Errorf("%+v, %v, %v", j, again, err)
	}
}

// TestManySubmitOnce lets two servers of the same NATS submit at the same time.
func TestManySubmitOnce(t *testing.T) {
	t.Parallel()
	a := open(t, Options{Listen: "127.0.0.1:0"})
	b := open(t, Options{URL: a.Address()})
	var wait sync.WaitGroup
	var mu sync.Mutex
	ids, first := map[string]int{}, 0
	for i := range 50 {
		wait.Go(func() {
			q := a
			if i%2 == 1 {
				q = b
			}
			j, again, err := once(q, t, "k", "r")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if ids[j.ID]++; !again {
				first++
			}
		})
	}
	wait.Wait()
	all, err := a.Jobs(t.Context())
	if err != nil || len(all) != 1 || len(ids) != 1 || first != 1 {
		t.Errorf("%d jobs, %d IDs, %d first answers, %v", len(all), len(ids), first, err)
	}
	check(t, mustTake(t, a, "w").Done(t.Context(), Result{}))
	nothing(t, a, 0) // the messages of the others are gone
}
