package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	// KeysFor is how long SubmitOnce remembers a key.
	KeysFor  = 24 * time.Hour
	keyBytes = 64 << 20 // of all keys together; a key takes about 300
)

// The causes for which a key is refused.
var (
	ErrKeyReused  = errors.New("the idempotency key was used for another request")
	ErrKeyRemoved = errors.New("the job of this idempotency key was removed")
)

// keyRecord is what is stored for a key.
type keyRecord struct {
	Request string `json:"request"` // checksum of the request
	Job     string `json:"job"`
	Stored  bool   `json:"stored,omitempty"` // set when the job exists or has existed
}

const keyOp = "use the idempotency key"

// keyName returns the name of a key in the bucket.
func keyName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// key reads what is stored for a key. The error is of kind Usage with the cause
// ErrKeyReused if the key belongs to another request, and jetstream.ErrKeyNotFound
// if nothing is stored.
func (q *Queue) key(ctx context.Context, key, request string) (r keyRecord, err error) {
	e, err := cluster.Persist(ctx, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return q.keys.Get(ctx, keyName(key)) })
	if err == nil {
		err = json.Unmarshal(e.Value(), &r)
	}
	if err == nil && r.Request != request {
		err = fault.Usage.Wrap(keyOp, ErrKeyReused, "use a new key for every new job")
	}
	return r, err
}

// Submitted returns the job that SubmitOnce has made for a key, if it has made one.
// request is a checksum of the request. The causes of its errors are those of SubmitOnce.
func (q *Queue) Submitted(ctx context.Context, key, request string) (j Job, ok bool, err error) {
	r, err := q.key(ctx, key, request)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return j, false, nil
	}
	if err != nil {
		return j, false, q.failure(err)
	}
	j, err = q.Job(ctx, r.Job)
	if !errors.Is(err, ErrNoJob) {
		return j, err == nil, err
	}
	if r.Stored {
		return j, false, fault.Usage.Wrap(keyOp, ErrKeyRemoved, "use a new key to make the job again")
	}
	return j, false, nil
}

// SubmitOnce is Submit for a request with a key: for KeysFor, only the first call with
// the key stores a job, whichever server it is made on. The others return this job, and
// again is true. The cause of the error is ErrKeyReused if the checksums of the requests
// differ, and ErrKeyRemoved if the job was removed. If no more keys can be stored, the
// job is stored without its key.
func (q *Queue) SubmitOnce(ctx context.Context, key, request string, j Job) (_ Job, again bool, err error) {
	put := func(stored bool, f func(context.Context, string, []byte) (uint64, error)) error {
		b, err := json.Marshal(keyRecord{request, j.ID, stored})
		if err != nil {
			return err
		}
		_, err = cluster.Persist(ctx, func(ctx context.Context) (uint64, error) { return f(ctx, keyName(key), b) })
		return err
	}
	create := func(ctx context.Context, name string, b []byte) (uint64, error) { return q.keys.Create(ctx, name, b) }
	// The key fixes the ID of the job, so everyone who has the key tries to store a job
	// under the same ID, and only one succeeds.
	for {
		err := put(false, create)
		if err == nil {
			break
		}
		if cluster.NotStored(err) {
			q.log.Warn("queue: a job is made without its idempotency key, because too many keys are in use", "job", j.ID, "error", err)
			j, err = q.Submit(ctx, j)
			return j, false, err
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return j, false, q.failure(err)
		}
		r, err := q.key(ctx, key, request)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // it has just expired
		}
		if err != nil {
			return j, false, q.failure(err)
		}
		if r.Stored {
			return q.Submitted(ctx, key, request)
		}
		j.ID = r.Job
		break
	}
	j, err = q.Submit(ctx, j)
	if again = errors.Is(err, errExists); again {
		err = nil
	}
	if err == nil {
		if err := put(true, q.keys.Put); err != nil {
			q.log.Warn("queue: an idempotency key is not noted as used", "job", j.ID, "error", err)
		}
	}
	return j, again, err
}
