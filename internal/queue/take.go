package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	// pollEvery is how soon a waiting worker looks for work that nobody announced: tasks
	// of a lost worker, and tasks whose pause is over. The longer it has waited, the
	// longer it pauses, up to four times as long.
	pollEvery = time.Second
	// recordDelay is how long the record of a job may appear after its message.
	recordDelay = time.Minute
	recordPoll  = 300 * time.Millisecond // between two attempts to read such a record
	leave       = 2 * time.Second        // for a task that only newer workers can do
	maxPause    = 30 * time.Second       // before another attempt of a task
)

// Announce publishes the state of a worker; call it every few seconds.
func (q *Queue) Announce(ctx context.Context, w Worker) error {
	w.Seen = time.Now().UTC()
	b, err := json.Marshal(w)
	if err != nil {
		return fault.Internal.Wrap(op, err)
	}
	_, err = q.workers.Put(ctx, w.ID, b)
	return q.failure(err)
}

// Leave removes a worker from the list.
func (q *Queue) Leave(ctx context.Context, id string) error {
	return q.failure(q.workers.Purge(ctx, id))
}

// Workers returns the live workers, ordered by ID.
func (q *Queue) Workers(ctx context.Context) ([]Worker, error) {
	return entries(ctx, q, q.workers, func(e jetstream.KeyValueEntry) (w Worker, err error) {
		return w, json.Unmarshal(e.Value(), &w)
	})
}

// Take waits for a task of one of the engines and takes it for a worker: the
// first of the highest priority. The lease is kept alive until one of its
// methods ends it, even after ctx has ended.
func (q *Queue) Take(ctx context.Context, worker string, engines []string) (*Lease, error) {
	if l, err := q.first(ctx, worker, engines); err != nil || l != nil {
		return l, err
	}
	signs, sign := cluster.Signs()
	for _, engine := range engines {
		s, err := q.nc.QueueSubscribe(wakeSubject+engine, "workers", sign)
		if err != nil {
			return nil, q.failure(err)
		}
		defer func() { _ = s.Unsubscribe() }()
	}
	for pause := q.poll; ; pause = min(2*pause, 4*q.poll) {
		if l, err := q.first(ctx, worker, engines); err != nil || l != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fault.Cancelled.Wrap("wait for work", ctx.Err())
		case <-signs:
			pause = q.poll / 2
		case <-time.After(pause):
		}
	}
}

// first takes the first task of the highest priority; it returns nil when there
// is none now.
func (q *Queue) first(ctx context.Context, worker string, engines []string) (*Lease, error) {
	for _, p := range priorities {
		for _, engine := range engines {
			if l, err := q.next(ctx, worker, engine+"."+string(p)); err != nil || l != nil {
				return l, err
			}
		}
	}
	return nil, nil
}

// next takes the first task of a line; it returns nil when there is none now.
func (q *Queue) next(ctx context.Context, worker, line string) (*Lease, error) {
	c, ok := q.lines[line]
	if !ok {
		return nil, nil // see setUp
	}
	for ctx.Err() == nil {
		batch, err := c.FetchNoWait(1)
		if err != nil {
			return nil, q.lasting(err)
		}
		m, ok := <-batch.Messages()
		if !ok {
			return nil, q.lasting(batch.Error())
		}
		l, err := q.accept(ctx, worker, m)
		if err != nil {
			_ = m.NakWithDelay(recordPoll)
			return nil, q.lasting(err)
		}
		if l != nil {
			return l, nil
		}
	}
	return nil, nil
}

// lasting returns an error as a fault. It returns nil for errors that pass by
// themselves, such as those of a server that is restarting.
func (q *Queue) lasting(err error) error {
	if cluster.Passing(err) {
		return nil
	}
	return q.failure(err)
}

// accept takes the task of a message if the record of its job says that it is to
// be done. Otherwise it deals with the message and returns nil.
func (q *Queue) accept(ctx context.Context, worker string, m jetstream.Msg) (*Lease, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, q.failure(err)
	}
	var t ticket
	if err := json.Unmarshal(m.Data(), &t); err != nil || !validID(t.Job) {
		q.log.Warn("queue: an unknown message is dropped", "subject", m.Subject())
		return nil, q.failure(m.Ack())
	}
	var what verdict
	lease := NewID()
	j, err := q.change(ctx, t.Job, func(j *Job) error {
		if t.Task < len(j.Tasks) && j.Tasks[t.Task].Lease == lease { // the answer was lost, and then the record was changed again
			what = take
			return errUnchanged
		}
		if what = q.judge(j, t, meta.Sequence.Stream); what >= take && !j.understood() {
			what = newer
		}
		if what < take {
			return errUnchanged
		}
		task := &j.Tasks[t.Task]
		if what == take {
			j.State, j.Started = Running, cmp.Or(j.Started, time.Now().UTC())
			task.State, task.Worker, task.Lease = Running, worker, lease
			task.Attempts++
			return nil
		}
		task.State, task.Lease = Queued, ""
		if what == giveUp {
			j.close(Failed)
			j.Problem = &Problem{Dead: true, ExitCode: int(fault.Internal),
				Message: fmt.Sprintf("given up after %d attempts: the worker %s was lost", task.Attempts, task.Worker),
				Hint:    "look at the log of the worker, then retry the job"}
		} else if !j.running() {
			j.close(Cancelled)
		}
		return nil
	})
	if errors.Is(err, ErrNoJob) {
		what, err = early, nil
	}
	if err != nil {
		return nil, err
	}
	switch what {
	case take:
		return q.lease(ctx, j, t.Task, lease, m), nil
	case newer:
		if _, again := q.newer.LoadOrStore(j.ID, nil); !again {
			q.log.Warn("queue: a job is left to workers of a newer version", "job", j.ID)
		}
		return nil, q.failure(m.NakWithDelay(leave))
	case early:
		if time.Since(meta.Timestamp) < recordDelay {
			return nil, q.failure(m.NakWithDelay(recordPoll))
		}
	case completed:
		err = q.proceed(ctx, j)
	case giveUp:
		err = q.deadLetter(ctx, j)
	}
	if err == nil {
		err = q.end(ctx, j)
	}
	if err == nil {
		err = q.failure(m.Ack())
	}
	return nil, err
}

// verdict says what to do with a message.
type verdict int

const (
	drop      verdict = iota // it is not valid, or no longer
	early                    // its record may still appear
	completed                // the task is done but was not acknowledged
	newer                    // it needs a newer version of this program
	take                     // this and the following change the record
	giveUp                   // there were too many attempts
	stopped                  // the job is being cancelled
)

func (q *Queue) judge(j *Job, t ticket, sequence uint64) verdict {
	switch {
	case j.Generation > t.Generation:
		return drop
	case j.Generation < t.Generation:
		return early
	case t.Task >= len(j.Tasks):
		return early // a split is being written
	}
	task := j.Tasks[t.Task]
	switch {
	case task.Sequence > sequence:
		return drop
	case task.Sequence < sequence:
		return early
	case j.State.Ended():
		return drop
	case task.State == Done:
		return completed
	case j.Cancelling:
		return stopped
	case task.Attempts >= q.o.Attempts:
		return giveUp
	}
	return take
}

// proceed queues the join once all parts are done.
func (q *Queue) proceed(ctx context.Context, j Job) error {
	last := len(j.Tasks) - 1
	if j.State.Ended() || j.Tasks[last].Kind != KindJoin || j.Tasks[last].Sequence != 0 || !j.partsDone() {
		return nil
	}
	sequence, err := q.send(ctx, j, last)
	if err != nil {
		return err
	}
	_, err = q.change(ctx, j.ID, func(now *Job) error {
		if now.Generation != j.Generation || now.Tasks[last].Sequence != 0 {
			return errUnchanged
		}
		now.Tasks[last].Sequence = sequence
		return nil
	})
	q.announceWork(j.Engine, 1)
	return err
}

// deadLetter copies a job that was given up to the stream LIPSTREAM_DEAD, for operators.
func (q *Queue) deadLetter(ctx context.Context, j Job) error {
	b, err := json.Marshal(j)
	if err == nil {
		_, err = q.publish(ctx, &nats.Msg{Subject: deadSubject + j.ID, Data: b}, jetstream.WithMsgID(fmt.Sprintf("%s.%d", j.ID, j.Generation)))
	}
	return err
}
