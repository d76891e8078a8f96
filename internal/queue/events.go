package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

// lastHeader marks the last event of a job.
const lastHeader = "Lipstream-Last"

// Event is an entry in a job's log. Data is a lipstream.Event in JSON, with one
// more field: "task", the number of the task.
type Event struct {
	// Sequence increases over the events of all jobs, so the events of one job
	// have gaps.
	Sequence uint64
	Data     []byte
	Last     bool // nothing follows unless the job is retried
}

// Events calls f with the events of a job after a sequence number (0 for all that
// are kept), then with new ones as they arrive. It returns after the last event,
// when f returns an error, which it returns, or when ctx ends.
func (q *Queue) Events(ctx context.Context, id string, after uint64, f func(Event) error) error {
	if _, err := q.Job(ctx, id); err != nil {
		return err
	}
	subject := eventSubject + id
	if last, err := cluster.Last(ctx, q.js, eventStream, subject); err == nil && last.Sequence <= after && last.Header.Get(lastHeader) != "" {
		return nil
	}
	return q.consume(ctx, subject, after, func(_ string, e Event) (last bool, err error) { return e.Last, f(e) })
}

// LastEvent returns the sequence number of the latest event of a job, 0 if it has none.
func (q *Queue) LastEvent(ctx context.Context, id string) (uint64, error) {
	last, err := cluster.Last(ctx, q.js, eventStream, eventSubject+id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, q.failure(err)
	}
	return last.Sequence, nil
}

// Follow calls f with all events of all jobs that are written from now on, until
// ctx ends.
func (q *Queue) Follow(ctx context.Context, f func(id string, e Event)) error {
	i, err := cluster.Persist(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return q.events.Info(ctx) })
	if err != nil {
		return q.failure(err)
	}
	return q.consume(ctx, eventSubject+">", i.State.LastSeq, func(id string, e Event) (bool, error) {
		f(id, e)
		return false, nil
	})
}

// consume calls f with the events of a subject after a sequence number, until f returns
// last or an error, or ctx ends.
func (q *Queue) consume(ctx context.Context, subject string, after uint64, f func(id string, e Event) (last bool, err error)) (failed error) {
	err := cluster.Follow(ctx, q.js, eventStream, subject, after, func(m *jetstream.RawStreamMsg) (more bool) {
		var last bool
		last, failed = f(strings.TrimPrefix(m.Subject, eventSubject), Event{Sequence: m.Sequence, Data: m.Data, Last: m.Header.Get(lastHeader) != ""})
		return !last && failed == nil
	})
	return cmp.Or(failed, q.failure(err))
}

// end writes the last event of a job if it has ended, unless the log has it already.
func (q *Queue) end(ctx context.Context, j Job) error {
	if !j.State.Ended() {
		return nil
	}
	subject := eventSubject + j.ID
	last, err := cluster.Persist(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return cluster.Last(ctx, q.js, eventStream, subject)
	})
	if err == nil && last.Header.Get(lastHeader) != "" {
		return nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return q.failure(err)
	}
	e := lipstream.Event{Time: time.Now(), Phase: lipstream.PhaseFinish, Engine: j.Engine, Elapsed: j.Ended.Sub(cmp.Or(j.Started, j.Ended))}
	switch j.State {
	case Done:
		r := j.Result
		e.Type, e.Output, e.Engine = lipstream.EventDone, r.Name, r.Engine
		e.Frame, e.Frames, e.NoFace, e.MemoryPeak = r.Frames, r.Frames, r.NoFace, r.MemoryPeak
	case Failed:
		e.Type, e.Message, e.Hint, e.ExitCode = lipstream.EventError, j.Problem.Message, j.Problem.Hint, j.Problem.ExitCode
	default:
		e.Type, e.Message, e.ExitCode = lipstream.EventError, "cancelled", int(fault.Cancelled)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fault.Internal.Wrap("write the log of job "+j.ID, err)
	}
	m := &nats.Msg{Subject: subject, Data: b, Header: nats.Header{lastHeader: {"1"}}}
	// The ID makes NATS drop a second last event of the same job.
	_, err = q.publish(ctx, m, jetstream.WithMsgID(fmt.Sprintf("%s.%d.end", j.ID, j.Generation)))
	return err
}

// Frame is a frame of a running job.
type Frame struct {
	Index int64  // of the output
	JPEG  []byte // at most 640 pixels wide
}

// ErrNoFrame is the cause when a job has no frame yet.
var ErrNoFrame = errors.New("no frame of it has been made yet")

// Frame returns the latest frame of a job.
func (q *Queue) Frame(ctx context.Context, id string) (Frame, error) {
	none := fault.Input.Wrap("show job "+id, ErrNoFrame)
	if !validID(id) {
		return Frame{}, none
	}
	e, err := q.frames.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Frame{}, none
	}
	var f Frame
	if err == nil {
		err = json.Unmarshal(e.Value(), &f)
	}
	return f, q.failure(err)
}
