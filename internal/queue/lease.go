package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

// The causes for which the context of a lease ends before its task does.
var (
	ErrCancelled = errors.New("the job was cancelled")
	ErrLost      = errors.New("the task was given to another worker")
)

// Lease is a task that this worker holds. It is kept alive until one of Done,
// DonePart, Split, Fail, Release and Cancelled ends it. Exactly one of them must
// be called, unless the cause of the context is ErrLost. Their cause is ErrLost
// when another worker has the task.
type Lease struct {
	Job   Job // as it was when the task was taken
	Index int // of the task in Job.Tasks

	q      *Queue
	id     string
	m      jetstream.Msg
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when keep has ended
}

func (q *Queue) lease(ctx context.Context, j Job, task int, id string, m jetstream.Msg) *Lease {
	l := &Lease{Job: j, Index: task, q: q, id: id, m: m, done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	go l.keep()
	return l
}

// keep sends heartbeats and watches the record.
func (l *Lease) keep() {
	defer close(l.done)
	beat := time.NewTicker(l.q.beat)
	defer beat.Stop()
	changes, err := l.q.jobs.Watch(l.ctx, l.Job.ID)
	var updates <-chan jetstream.KeyValueEntry
	if err == nil {
		updates = changes.Updates()
		defer func() { _ = changes.Stop() }()
	}
	last := time.Now() // when the server last got a heartbeat
	check := func(j Job) {
		switch {
		case j.Revision < l.Job.Revision: // the watch reads from a replica that may be behind
		case !l.holds(&j):
			l.cancel(ErrLost)
		case j.Cancelling:
			l.cancel(ErrCancelled)
		}
	}
	for l.ctx.Err() == nil {
		select {
		case <-l.ctx.Done():
		case <-beat.C:
			ctx, stop := context.WithTimeout(l.ctx, l.q.o.Lease/4)
			j, err := l.q.Job(ctx, l.Job.ID)
			stop()
			switch {
			case err == nil:
				if check(j); l.ctx.Err() == nil && l.m.InProgress() == nil {
					last = time.Now()
				}
			case errors.Is(err, ErrNoJob), time.Since(last) > l.q.o.Lease:
				l.cancel(ErrLost) // the server has given it to another, or will
			}
		case e, ok := <-updates:
			switch {
			case !ok:
				updates = nil
			case e == nil: // the end of what existed
			case e.Operation() != jetstream.KeyValuePut:
				l.cancel(ErrLost) // the job was removed
			default:
				if j, err := decode(e); err == nil {
					check(j)
				}
			}
		}
	}
}

// stop ends the heartbeats.
func (l *Lease) stop() {
	l.cancel(nil)
	<-l.done
}

// holds reports whether the record names this lease.
func (l *Lease) holds(j *Job) bool {
	return !j.State.Ended() && j.Generation == l.Job.Generation && l.Index < len(j.Tasks) && j.Tasks[l.Index].Lease == l.id
}

// Task returns the task to do.
func (l *Lease) Task() Task { return l.Job.Tasks[l.Index] }

// ID returns the name of the lease, which is different for every attempt.
func (l *Lease) ID() string { return l.id }

// Context returns a context that ends when the work on the task must stop. Its
// cause is ErrCancelled or ErrLost.
func (l *Lease) Context() context.Context { return l.ctx }

// Event adds an event to the job's log. It ignores the events that end a job: the
// queue writes them.
func (l *Lease) Event(ctx context.Context, e lipstream.Event) error {
	if e.Type == lipstream.EventDone || e.Type == lipstream.EventError {
		return nil
	}
	e.Output = "" // a path on the worker's machine
	b, err := json.Marshal(e)
	if err == nil {
		_, err = l.q.publish(ctx, &nats.Msg{Subject: eventSubject + l.Job.ID, Data: fmt.Appendf(nil, `{"task":%d,%s`, l.Index, b[1:])})
	}
	return err
}

// Frame stores a frame of the running job. Only the latest is kept.
func (l *Lease) Frame(ctx context.Context, f Frame) error {
	b, err := json.Marshal(f)
	if err == nil {
		_, err = l.q.frames.Put(ctx, l.Job.ID, b)
	}
	return l.q.failure(err)
}

// detached returns a context for ending a task. The context of the lease ends as
// soon as the record no longer names the lease.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cluster.Patience)
}

// change changes the record if it still names this lease.
func (l *Lease) change(ctx context.Context, f func(*Job, *Task)) (Job, error) {
	ctx, stop := detached(ctx)
	defer stop()
	return l.q.change(ctx, l.Job.ID, func(j *Job) error {
		if !l.holds(j) {
			return &fault.Error{Kind: fault.Internal, Op: "end a task of job " + j.ID, Err: ErrLost}
		}
		f(j, &j.Tasks[l.Index])
		return nil
	})
}

// finish acknowledges the message after the record was changed. If this process
// ends in between, the message is handed out again and dropped.
func (l *Lease) finish(ctx context.Context, j Job, err error) error {
	ctx, stop := detached(ctx)
	defer stop()
	l.stop()
	if err == nil {
		err = l.q.end(ctx, j)
	}
	if err == nil {
		_, err = cluster.Persist(ctx, func(ctx context.Context) (any, error) { return nil, l.m.DoubleAck(ctx) })
		err = l.q.failure(err)
	}
	return err
}

// Split replaces a task of KindWhole with parts and their join.
func (l *Lease) Split(ctx context.Context, parts []Part) error {
	if l.Task().Kind != KindWhole || len(parts) < 2 || len(l.Job.Tasks) != 1 {
		return fault.Internal.New("split job "+l.Job.ID, fmt.Sprintf("%s into %d", l.Task().Kind, len(parts)))
	}
	var tasks []Task
	for i, p := range parts {
		sequence, err := l.q.send(ctx, l.Job, i)
		if err != nil {
			return err
		}
		tasks = append(tasks, Task{Kind: KindPart, State: Queued, Part: &p, Sequence: sequence})
	}
	tasks = append(tasks, Task{Kind: KindJoin, State: Queued})
	j, err := l.change(ctx, func(j *Job, _ *Task) { j.Tasks = tasks })
	l.q.announceWork(j.Engine, len(parts))
	return l.finish(ctx, j, err)
}

// DonePart reports that a part is done, where it is in the store, and what the process
// that made it counted.
func (l *Lease) DonePart(ctx context.Context, object string, made lipstream.Result) error {
	j, err := l.change(ctx, func(_ *Job, t *Task) {
		t.State, t.Object, t.Frames, t.NoFace, t.Speakers, t.Lease = Done, object, made.Frames, made.NoFace, made.Speakers, ""
	})
	ctx, stop := detached(ctx)
	defer stop()
	if err == nil {
		err = l.q.proceed(ctx, j)
	}
	return l.finish(ctx, j, err)
}

// Done reports that the job is done.
func (l *Lease) Done(ctx context.Context, r Result) error {
	j, err := l.change(ctx, func(j *Job, t *Task) {
		t.State, t.Object, t.Frames, t.Lease = Done, r.Object, r.Frames, ""
		j.Result = &r
		j.close(Done)
	})
	return l.finish(ctx, j, err)
}

// Fail reports why a task failed. If again is set and there were fewer than
// Options.Attempts attempts, the task is queued again after a pause. Otherwise its
// job has failed.
func (l *Lease) Fail(ctx context.Context, p Problem, again bool) error {
	var pause time.Duration
	j, err := l.change(ctx, func(j *Job, t *Task) {
		t.State, t.Lease = Queued, ""
		if pause = 0; again && t.Attempts < l.q.o.Attempts && !j.Cancelling {
			pause = min(maxPause, l.q.pause<<min(t.Attempts-1, 10))
			return
		}
		if p.Dead = again; again {
			p.Message = fmt.Sprintf("given up after %d attempts: %s", t.Attempts, p.Message)
		}
		j.Problem = &p
		j.close(Failed)
	})
	if err == nil && pause == 0 && j.Problem.Dead {
		err = l.q.deadLetter(ctx, j)
	}
	if err != nil || pause == 0 {
		return l.finish(ctx, j, err)
	}
	message := fmt.Sprintf("attempt %d failed, the next begins in %v: %s", l.Task().Attempts, pause, p.Message)
	if err := l.Event(ctx, lipstream.Event{Type: lipstream.EventWarning, Time: time.Now(), Message: message, Hint: p.Hint}); err != nil {
		l.q.log.Warn("queue", "error", err)
	}
	l.stop()
	return l.q.failure(l.m.NakWithDelay(pause))
}

// Release returns the task to the queue as if it had not been taken.
func (l *Lease) Release(ctx context.Context) error {
	_, err := l.change(ctx, func(j *Job, t *Task) {
		t.State, t.Lease, t.Attempts = Queued, "", t.Attempts-1
		if !j.running() && !slices.ContainsFunc(j.Tasks, func(t Task) bool { return t.State == Done }) {
			j.State = Queued
		}
	})
	l.stop()
	if err == nil {
		err = l.q.failure(l.m.Nak())
		l.q.announceWork(l.Job.Engine, 1)
	}
	return err
}

// Cancelled reports that the work has stopped because the job was cancelled. The
// job ends when its last running task has stopped.
func (l *Lease) Cancelled(ctx context.Context) error {
	j, err := l.change(ctx, func(j *Job, t *Task) {
		t.State, t.Lease = Queued, ""
		if !j.running() {
			j.close(Cancelled)
		}
	})
	return l.finish(ctx, j, err)
}
