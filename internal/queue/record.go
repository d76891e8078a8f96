package queue

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/fault"
)

// ErrNoJob is the cause when a job does not exist.
var ErrNoJob = errors.New("the job does not exist")

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID returns a new job ID: 18 letters and digits that sort by time.
func NewID() string {
	b := make([]byte, 11)
	ms := time.Now().UnixMilli()
	for i := range 6 {
		b[i] = byte(ms >> (8 * (5 - i)))
	}
	_, _ = rand.Read(b[6:])
	return idEncoding.EncodeToString(b)
}

// validID reports whether id has the form of NewID and so is safe in a subject.
func validID(id string) bool {
	return len(id) == 18 && strings.Trim(id, "0123456789abcdefghjkmnpqrstvwxyz") == ""
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
	if err := json.Unmarshal(e.Value(), &j); err != nil {
		return j, fault.Internal.Wrap("read the record of job "+e.Key(), err)
	}
	j.Revision = e.Revision()
	return j, nil
}

// Jobs returns all jobs, the newest first.
func (q *Queue) Jobs(ctx context.Context) ([]Job, error) {
	w, err := q.jobs.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, q.failure(err)
	}
	defer func() { _ = w.Stop() }()
	var all []Job
	for {
		select {
		case <-ctx.Done():
			return nil, q.failure(ctx.Err())
		case e, ok := <-w.Updates():
			if !ok || e == nil { // the end of the existing records
				slices.SortFunc(all, func(a, b Job) int { return strings.Compare(b.ID, a.ID) })
				return all, nil
			}
			j, err := decode(e)
			if err != nil {
				return nil, err
			}
			all = append(all, j)
		}
	}
}

// Watch calls f with every job and then with every change, until ctx ends. When a
// job was removed, j is nil.
func (q *Queue) Watch(ctx context.Context, f func(id string, j *Job)) error {
	w, err := q.jobs.WatchAll(ctx)
	if err != nil {
		return q.failure(err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return nil
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
		}
	}
}

// errKeep is returned by the callback of change to leave the record unchanged.
var errKeep = errors.New("nothing to change")

// change changes a record by compare-and-swap. It may call f several times, each
// time with the current record.
func (q *Queue) change(ctx context.Context, id string, f func(*Job) error) (Job, error) {
	for {
		j, err := q.Job(ctx, id)
		if err != nil {
			return j, err
		}
		revision := j.Revision
		if err := f(&j); errors.Is(err, errKeep) {
			return j, nil
		} else if err != nil {
			return j, err
		}
		b, err := json.Marshal(j)
		if err != nil {
			return j, fault.Internal.Wrap("write the record of job "+id, err)
		}
		j.Revision, err = q.jobs.Update(ctx, id, b, revision)
		if err == nil {
			return j, nil
		}
		if !outdated(err) {
			return j, q.failure(err)
		}
	}
}

// outdated reports whether somebody else changed the record first.
func outdated(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// running reports whether a worker holds any of the job's tasks.
func (j *Job) running() bool {
	return slices.ContainsFunc(j.Tasks, func(t Task) bool { return t.State == Running })
}

// close ends a job.
func (j *Job) close(s State) {
	j.State, j.Ended, j.Cancelling = s, time.Now().UTC(), false
}
