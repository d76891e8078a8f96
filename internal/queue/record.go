package queue

import (
	"bytes"
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

	"github.com/lipstream/lipstream/internal/cluster"
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
	e, err := cluster.Persist(ctx, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return q.jobs.Get(ctx, id) })
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Job{}, noJob(id)
	}
	if err != nil {
		return Job{}, q.failure(err)
	}
	return decode(e)
}

func decode(e jetstream.KeyValueEntry) (Job, error) {
	j := Job{raw: e.Value()}
	err := json.Unmarshal(j.raw, &j)
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
	see := func(e jetstream.KeyValueEntry) {
		if j, err := decode(e); err == nil {
			f(j.ID, &j)
		} else {
			q.log.Error("queue", "error", err)
		}
	}
	var newest uint64
	err := q.watch(ctx, q.jobs, func(e jetstream.KeyValueEntry) (more bool, err error) {
		if e == nil {
			return false, nil
		}
		if newest = max(newest, e.Revision()); e.Operation() == jetstream.KeyValuePut {
			see(e)
		} else {
			f(e.Key(), nil)
		}
		return true, nil
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	return q.failure(cluster.FollowBucket(ctx, q.js, jobBucket, newest, func(key string, e jetstream.KeyValueEntry) {
		if e == nil {
			f(key, nil)
		} else {
			see(e)
		}
	}))
}

// watch calls f with every entry of a bucket, with nil after the last of them, and
// then with every change. It ends when f returns false or an error, or when ctx ends.
// It asks any replica, so the newest entries may be missing at first.
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
	var tried [][]byte
	return cluster.Persist(ctx, func(ctx context.Context) (Job, error) {
		for {
			j, err := q.Job(ctx, id)
			// An attempt may have been stored although its answer was lost.
			if err != nil || slices.ContainsFunc(tried, func(b []byte) bool { return bytes.Equal(j.raw, b) }) {
				return j, err
			}
			revision := j.Revision
			if err := f(&j); errors.Is(err, errUnchanged) {
				return j, nil
			} else if err != nil {
				return j, err
			}
			if j.raw, err = j.encode(); err != nil {
				return j, fault.Internal.Wrap("write the record of job "+id, err)
			}
			tried = append(tried, j.raw)
			j.Revision, err = q.jobs.Update(ctx, id, j.raw, revision)
			if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) { // otherwise somebody else has changed it
				return j, q.failure(err)
			}
		}
	})
}

// encode returns the record of a changed job. It keeps the fields of the old record
// that only newer versions know.
func (j *Job) encode() ([]byte, error) {
	var old Job
	b, err := json.Marshal(j)
	if err != nil || json.Unmarshal(j.raw, &old) != nil {
		return b, err
	}
	known, err := json.Marshal(old)
	return merge(j.raw, known, b), err
}

// merge adds to the JSON of now what before has and known has not, at any depth.
// known is before without what this version does not know.
func merge(before, known, now json.RawMessage) json.RawMessage {
	var b, k, n map[string]json.RawMessage
	if json.Unmarshal(before, &b) == nil && json.Unmarshal(known, &k) == nil && json.Unmarshal(now, &n) == nil && b != nil && n != nil {
		for name, value := range b {
			inKnown, isKnown := k[name]
			inNow, isNow := n[name]
			switch {
			case isKnown && isNow:
				n[name] = merge(value, inKnown, inNow)
			case !isKnown && !isNow:
				n[name] = value
			}
		}
		now, _ = json.Marshal(n)
		return now
	}
	var bs, ks, ns []json.RawMessage
	if json.Unmarshal(before, &bs) == nil && json.Unmarshal(known, &ks) == nil && json.Unmarshal(now, &ns) == nil && len(bs) == len(ns) && len(ks) == len(ns) && len(ns) > 0 {
		for i := range ns {
			ns[i] = merge(bs[i], ks[i], ns[i])
		}
		now, _ = json.Marshal(ns)
	}
	return now
}

// understood reports whether this version knows everything that the job asks for.
func (j *Job) understood() bool {
	var r struct {
		Spec json.RawMessage `json:"spec"`
	}
	if j.Protocol > protocol || json.Unmarshal(j.raw, &r) != nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(r.Spec))
	d.DisallowUnknownFields()
	return d.Decode(new(Spec)) == nil
}

// running reports whether a worker holds any of the job's tasks.
func (j *Job) running() bool {
	return slices.ContainsFunc(j.Tasks, func(t Task) bool { return t.State == Running })
}

// close ends a job.
func (j *Job) close(s State) {
	j.State, j.Ended, j.Cancelling = s, time.Now().UTC(), false
}
