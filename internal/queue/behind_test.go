package queue

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/fault"
)

// badBucket is a bucket whose answers get lost.
type badBucket struct {
	jetstream.KeyValue
	updated func() // after an Update whose answer is lost; nil: answers arrive
}

func (b *badBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	revision, err := b.KeyValue.Update(ctx, key, value, revision)
	if f := b.updated; err == nil && f != nil {
		b.updated = nil
		f()
		return 0, nats.ErrTimeout
	}
	return revision, err
}

// TestLostAnswer changes a record, loses the answer, and changes the record otherwise
// before the change is tried again.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	bucket := &badBucket{KeyValue: q.jobs}
	other := &Queue{o: q.o, jobs: q.jobs}
	q.jobs = bucket // before any goroutine reads it
	for _, between := range []func(id string){
		func(string) {},
		func(id string) {
			_, err := other.change(t.Context(), id, func(j *Job) error { j.Video.Name = "other"; return nil })
			check(t, err)
		},
	} {
		j := submit(t, q, "")
		bucket.updated = func() { between(j.ID) }
		l := mustTake(t, q, "w")
		if l.Job.ID != j.ID || l.Task().Attempts != 1 {
			t.Errorf("taken more than once: %+v", l.Job)
		}
		check(t, l.Release(t.Context()))
		_, err := q.Cancel(t.Context(), j.ID)
		check(t, err)
		untilState(t, q, j.ID, Cancelled)
	}
}

// TestLateAnswer loses the answer to a change and then reads the old record once more, so
// that the change is made a second time.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	j := submit(t, q, "")
	old, err := q.jobs.Get(t.Context(), j.ID)
	check(t, err)
	bucket := &staleBucket{KeyValue: q.jobs, old: old}
	q.jobs = bucket
	calls := 0
	got, err := q.change(t.Context(), j.ID, func(j *Job) error {
		calls++
		j.Tasks[0].Attempts += calls
		return nil
	})
	if err != nil || got.Tasks[0].Attempts != 1 || calls != 2 {
		t.Errorf("%+v, %v after %d calls", got.Tasks, err, calls)
	}
}

// staleBucket loses the answer to the first Update, and returns the old entry twice.
type staleBucket struct {
	jetstream.KeyValue
	old           jetstream.KeyValueEntry
	gets, updates int
}

func (b *staleBucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if b.gets++; b.gets <= 2 {
		return b.old, nil
	}
	return b.KeyValue.Get(ctx, key)
}

func (b *staleBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	revision, err := b.KeyValue.Update(ctx, key, value, revision)
	if b.updates++; b.updates == 1 && err == nil {
		err = nats.ErrTimeout
	}
	return revision, err
}

// TestManyKeys checks that jobs are made without their keys when no more keys can be stored.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	q := open(t, Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	var err error
	q.keys, err = q.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "full", MaxBytes: 10})
	check(t, err)
	j, again, err := once(q, t, "k", "r")
	if err != nil || again {
		t.Fatalf("%v, %v", again, err)
	}
	state(t, q, j.ID, Queued)
	if got := logged.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, j.ID) {
		t.Errorf("log: %s", got)
	}
}

// TestFull fills a NATS server up to its limit.
func TestFull(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, JetStreamMaxMemory: 1024, JetStreamMaxStore: 1 << 30,
		StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	check(t, err)
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	until(t, func() bool { return s.ReadyForConnections(time.Minute) })
	q := open(t, Options{URL: s.ClientURL()})
	l := &Lease{q: q, Job: Job{ID: NewID()}}
	for err == nil {
		err = l.Frame(t.Context(), Frame{JPEG: make([]byte, 4096)})
	}
	for _, replicas := range []int{1, 3} {
		q.o.Replicas = replicas
		if err := q.failure(errors.Unwrap(err)); fault.KindOf(err) != fault.Output || !strings.Contains(fault.HintOf(err), "space") {
			t.Errorf("%v; hint: %s", err, fault.HintOf(err))
		}
	}
	if fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"nats://host:4222":                      "nats://host:4222",
		"host:4222,b":                           "host:4222,b",
		"nats://me:secret@a:4222,tls://token@b": "nats://a:4222,tls://b",
		"me:secret@a:4222,token@b":              "a:4222,b",
		"":                                      "",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, url := range []string{"nats://me:secret@127.0.0.1:port", "me:secret@127.0.0.1:1", "nats://me:secret@a b"} {
		if _, err := Open(t.Context(), Options{URL: url, Lead: true}); fault.KindOf(err) != fault.Missing || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// onlyRead is a message that is not returned to the queue.
type onlyRead struct{ jetstream.Msg }

func (onlyRead) NakWithDelay(time.Duration) error { return nil }

// TestNewerIsLoggedOnce hands out a task twice that this worker does not understand.
func TestNewerIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	q := open(t, Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	j := submit(t, q, "")
	rewrite(t, q, j.ID, func(r map[string]any) { r["protocol"] = protocol + 1 })
	m, err := q.lines["preview.normal"].Next()
	check(t, err)
	for range 2 {
		if l, err := q.accept(t.Context(), "w", onlyRead{m}); l != nil || err != nil {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	if got := logged.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, j.ID) {
		t.Errorf("log: %s", got)
	}
}
