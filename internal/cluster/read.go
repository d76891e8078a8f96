package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Last returns the newest message of a subject of a stream, or an error that is
// jetstream.ErrMsgNotFound. It asks the leader of the stream. The methods of package
// jetstream ask any replica if the stream allows that, as all buckets do, and a replica
// may not have the newest messages yet.
func Last(ctx context.Context, js jetstream.JetStream, stream, subject string) (*jetstream.RawStreamMsg, error) {
	return read(ctx, js, stream, request{Last: subject})
}

// request is the body of STREAM.MSG.GET, see
// https://docs.nats.io/reference/reference-protocols/nats_api_reference.
type request struct {
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"` // the first from Sequence on
	Sequence uint64 `json:"seq,omitempty"`
}

// read returns a message as the leader of a stream has it.
func read(ctx context.Context, js jetstream.JetStream, stream string, q request) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	question, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	answer, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, question)
	if err != nil {
		return nil, err
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return nil, fmt.Errorf("read the answer of NATS: %w", err)
	}
	if r.Error != nil {
		if r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, jetstream.ErrMsgNotFound
		}
		return nil, r.Error
	}
	m := &jetstream.RawStreamMsg{Subject: r.Message.Subject, Sequence: r.Message.Sequence, Data: r.Message.Data, Time: r.Message.Time}
	if len(r.Message.Header) > 0 {
		m.Header, err = nats.DecodeHeadersMsg(r.Message.Header)
	}
	return m, err
}

const (
	soonest = 2 * time.Millisecond // until the next question after a sign of a message
	latest  = 5 * time.Second      // without any sign
)

// Follow calls f with the messages of a subject of a stream after a sequence number, in
// order, until f returns false or ctx ends. The subject may have wildcards.
//
// A consumer of JetStream would take fewer requests, but it lives on one server. When
// servers come and go, nats.go may wait forever for a consumer that is gone. So Follow
// asks the leader for one message after the other, and listens to the subject to know when.
func Follow(ctx context.Context, js jetstream.JetStream, stream, subject string, after uint64, f func(*jetstream.RawStreamMsg) (more bool)) error {
	signs, sign := Signs()
	s, err := js.Conn().Subscribe(subject, sign)
	if err != nil {
		return err
	}
	defer func() { _ = s.Unsubscribe() }()
	for pause := soonest; ; {
		m, err := Persist(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
			return read(ctx, js, stream, request{Next: subject, Sequence: after + 1})
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, jetstream.ErrMsgNotFound):
			select {
			case <-ctx.Done():
				return nil
			case <-signs: // the leader may get the message, and store it, later
				pause = soonest
			case <-time.After(pause):
				pause = min(2*pause, latest)
			}
		case err != nil:
			return err
		default:
			after, pause = m.Sequence, soonest
			if !f(m) {
				return nil
			}
		}
	}
}

// Signs returns a channel and a handler of messages. The channel has a value if the
// handler was called since it was last read.
func Signs() (<-chan struct{}, nats.MsgHandler) {
	signs := make(chan struct{}, 1)
	return signs, func(*nats.Msg) {
		select {
		case signs <- struct{}{}:
		default:
		}
	}
}

// bucket is a bucket whose Get asks the leader.
type bucket struct {
	jetstream.KeyValue
	js jetstream.JetStream
}

// Bucket returns kv with a Get that never returns an old entry (see Last). The other
// methods of kv read from any replica.
func Bucket(js jetstream.JetStream, kv jetstream.KeyValue) jetstream.KeyValue { return bucket{kv, js} }

func (b bucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	stream, prefix := names(b.Bucket())
	m, err := Last(ctx, b.js, stream, prefix+key)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && removed(m) {
		err = jetstream.ErrKeyNotFound
	}
	if err != nil {
		return nil, err
	}
	return entry{b.Bucket(), key, m}, nil
}

// FollowBucket calls f with the changes of a bucket after a revision until ctx ends, like
// Follow. When an entry was removed, e is nil.
func FollowBucket(ctx context.Context, js jetstream.JetStream, name string, after uint64, f func(key string, e jetstream.KeyValueEntry)) error {
	stream, prefix := names(name)
	return Follow(ctx, js, stream, prefix+">", after, func(m *jetstream.RawStreamMsg) bool {
		key := strings.TrimPrefix(m.Subject, prefix)
		if removed(m) {
			f(key, nil)
		} else {
			f(key, entry{name, key, m})
		}
		return true
	})
}

// names returns the stream of a bucket and what its subjects begin with, see
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md.
func names(bucket string) (stream, prefix string) {
	return "KV_" + bucket, "$KV." + bucket + "."
}

func removed(m *jetstream.RawStreamMsg) bool { return m.Header.Get("KV-Operation") != "" }

// entry is an entry that exists.
type entry struct {
	bucket, key string
	m           *jetstream.RawStreamMsg
}

func (e entry) Bucket() string                { return e.bucket }
func (e entry) Key() string                   { return e.key }
func (e entry) Value() []byte                 { return e.m.Data }
func (e entry) Revision() uint64              { return e.m.Sequence }
func (e entry) Created() time.Time            { return e.m.Time }
func (entry) Delta() uint64                   { return 0 }
func (entry) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }
