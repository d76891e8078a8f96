package queue

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/fault"
)

// ErrNoJob is the cause when a job does not exist.
var ErrNoJob = errors.New("the job does not exist")

const idDigits = "0123456789abcdefghjkmnpqrstvwxyz"

var idEncoding = base32.NewEncoding(idDigits).WithPadding(base32.NoPadding)

// NewID returns a new job ID: 18 letters and digits that sort by time.
func NewID() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))[2:]
	b = append(b, make([]byte, 5)...)
	_, _ = rand.Read(b[6:])
	return idEncoding.EncodeToString(b)
}

// validID reports whether id has the form of NewID and so is safe in a subject.
func validID(id string) bool {
	return len(id) == 18 && strings.Trim(id, idDigits) == ""
}

func noJob(id string) error {
	return &fault.Error{Kind: fault.Input, Op: "find job " + id, Err: ErrNoJob, Hint: "run lipstream jobs to list all jobs"}
}

// Job returns a job. The cause of the error is ErrNoJob if it does not exist.
func (q *Queue) Job(ctx context.Context, id string) (Job, error) {
	if !validID(id) {
		return Job{}, noJob(id)
	}
	e, err := q.jobs.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Job{}, noJob(id)
	}
	if err != nil {
		return Job{}, q.failure(err)
	}
	return decode(e)
}

func decode(e jetstream.KeyValueEntry) (Job, error) {
	var j Job
	err := json.Unmarshal(e.Value(), &j)
	j.Revision = e.Revision()
	return j, fault.Internal.Wrap("read the record of job "+e.Key(), err)
}

// Jobs returns all jobs, the newest first.
func (q *Queue) Jobs(ctx context.Context) ([]Job, error) {
	all, err := entries(ctx, q, q.jobs, decode)
	slices.Reverse(all)
	return all, err
}

// entries returns the decoded entries of a bucket, ordered by key.
func entries[T any](ctx context.Context, q *Queue, bucket jetstream.KeyValue, decode func(jetstream.KeyValueEntry) (T, error)) ([]T, error) {
	found := map[string]T{}
	err := q.watch(ctx, bucket, func(e jetstream.KeyValueEntry) (more bool, err error) {
		if e != nil && e.Operation() == jetstream.KeyValuePut {
			found[e.Key()], err = decode(e)
		}
		return e != nil, err
	})
	if err == nil {
		err = q.failure(ctx.Err())
	}
	all := []T{}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[key])
	}
	return all, err
}

// Watch calls f with every job and then with every change, until ctx ends. When a
// job was removed, j is nil.
func (q *Queue) Watch(ctx context.Context, f func(id string, j *Job)) error {
	return q.watch(ctx, q.jobs, func(e jetstream.KeyValueEntry) (bool, error) {
		switch {
		case e == nil:
		case e.Operation() != jetstream.KeyValuePut:
			f(e.Key(), nil)
		default:
			if j, err := decode(e); err == nil {
				f(j.ID, &j)
			} else {
				q.log.Error("queue", "error", err)
			}
		}
		return true, nil
	})
}

// watch calls f with every entry of a bucket, with nil after the last of them, and
// then with every change. It ends when f returns false or an error, or when ctx ends.
func (q *Queue) watch(ctx context.Context, bucket jetstream.KeyValue, f func(jetstream.KeyValueEntry) (more bool, err error)) error {
	w, err := bucket.WatchAll(ctx)
	if err != nil {
		return q.failure(err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			if !ok {
				return nil
			}
			if more, err := f(e); err != nil || !more {
				return q.failure(err)
			}
		}
	}
}

// errUnchanged is returned by the callback of change to leave the record unchanged.
var errUnchanged = errors.New("nothing to change")

// change changes a record by compare-and-swap. It may call f several times, each
// time with the current record.
func (q *Queue) change(ctx context.Context, id string, f func(*Job) error) (Job, error) {
	for {
		j, err := q.Job(ctx, id)
		if err != nil {
			return j, err
		}
		revision := j.Revision
		if err := f(&j); errors.Is(err, errUnchanged) {
			return j, nil
		} else if err != nil {
			return j, err
		}
		b, err := json.Marshal(j)
		if err != nil {
			return j, fault.Internal.Wrap("write the record of job "+id, err)
		}
		j.Revision, err = q.jobs.Update(ctx, id, b, revision)
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) { // otherwise somebody else has changed it
			return j, q.failure(err)
		}
	}
}

// running reports whether a worker holds any of the job's tasks.
func (j *Job) running() bool {
	return slices.ContainsFunc(j.Tasks, func(t Task) bool { return t.State == Running })
}

// close ends a job.
func (j *Job) close(s State) {
	j.State, j.Ended, j.Cancelling = s, time.Now().UTC(), false
}
