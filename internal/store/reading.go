package store

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	batch      = 32              // chunks in an answer, of 128 KiB each
	batchBytes = 4 << 20         // in an answer
	stalled    = 5 * time.Second // how long an answer may bring no chunk
)

// reading reads an object of NATS. It asks for a few chunks after the other. The Get of
// nats.go makes a consumer instead, and waits forever if another process replaces the
// object: its chunks are removed, and the consumer never says that no more will come.
type reading struct {
	s      objects
	ctx    context.Context
	cancel context.CancelFunc
	info   jetstream.ObjectInfo
	chunks [][]byte // that are here, the first perhaps in part
	last   uint64   // sequence number of the last chunk that came, or 0
	left   uint64   // bytes that have not come
	digest hash.Hash
}

func (r *reading) Read(b []byte) (int, error) {
	for len(r.chunks) == 0 || len(r.chunks[0]) == 0 {
		if len(r.chunks) > 1 {
			r.chunks = r.chunks[1:]
		} else if r.left == 0 {
			return 0, r.end()
		} else if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.chunks[0])
	r.chunks[0] = r.chunks[0][n:]
	return n, nil
}

// end compares the digest of what was read.
func (r *reading) end() error {
	want, err := jetstream.DecodeObjectDigest(r.info.Digest)
	if err == nil && !bytes.Equal(r.digest.Sum(nil), want) {
		err = jetstream.ErrDigestMismatch
	}
	if err != nil {
		return err
	}
	return io.EOF
}

// fill gets the next chunks, and tries again while the servers do not have them.
func (r *reading) fill() error {
	passing := func(err error) bool { return r.s.passing(err) && !errors.Is(err, errReplaced) }
	all, err := cluster.While(r.ctx, passing, r.next)
	r.chunks = r.chunks[:0]
	for _, m := range all {
		if uint64(len(m.Data)) > r.left {
			return jetstream.ErrDigestMismatch
		}
		r.chunks = append(r.chunks, m.Data)
		r.left -= uint64(len(m.Data))
		r.last = m.Sequence
		r.digest.Write(m.Data)
	}
	return err
}

// next returns the next chunks, at least one, from any replica.
func (r *reading) next() (all []*jetstream.RawStreamMsg, err error) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	timer := time.AfterFunc(stalled, func() { cancel(nats.ErrTimeout) })
	defer timer.Stop()
	answer, err := jetstreamext.GetBatch(unlimited{ctx}, r.s.js, stream, batch, jetstreamext.GetBatchSubject("$O."+bucket+".C."+r.info.NUID),
		jetstreamext.GetBatchSeq(r.last+1), jetstreamext.GetBatchMaxBytes(batchBytes))
	if err != nil {
		return nil, err
	}
	for m, e := range answer {
		if err = e; err != nil {
			break
		}
		timer.Reset(stalled)
		all = append(all, m)
	}
	switch {
	case len(all) > 0:
		return all, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil, errors.Is(err, jetstreamext.ErrNoMessages):
		return nil, r.missing()
	case errors.Is(err, jetstreamext.ErrBatchUnsupported):
		return nil, fault.Missing.New("read from NATS", "its servers are older than version 2.11", "update them")
	}
	return nil, err
}

// missing returns why a replica has no more chunks of the object.
func (r *reading) missing() error {
	newest, err := r.s.info(r.ctx, r.info.Name)
	if err == nil && newest.NUID != r.info.NUID {
		return errReplaced
	}
	if err == nil {
		return errBehind
	}
	return err
}

func (r *reading) Close() error {
	r.cancel()
	return nil
}

// unlimited is a context with a deadline that never comes. Without one, nats.go limits
// the time for the whole answer.
type unlimited struct{ context.Context }

func (unlimited) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }
