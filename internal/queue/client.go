package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream/internal/cluster"
	"github.com/lipstream/lipstream/internal/fault"
)

// ticket is a message in the work stream.
type ticket struct {
	Job        string `json:"job"`
	Task       int    `json:"task"`
	Generation int    `json:"generation"`
}

// protocol is the version of the records and messages that this program writes and
// understands. It must rise when an older worker would do a task of a newer server
// wrongly although it knows all settings of the job. Workers leave tasks with a
// higher number to others.
const protocol = 1

// send puts a task into the work stream and returns its sequence number. The
// task does not count until the job's record has that number.
func (q *Queue) send(ctx context.Context, j Job, task int) (uint64, error) {
	b, err := json.Marshal(ticket{j.ID, task, j.Generation})
	if err != nil {
		return 0, err
	}
	ack, err := q.publish(ctx, &nats.Msg{Subject: workSubject + j.Engine + "." + string(j.Priority), Data: b})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// announceWork wakes a waiting worker for each task. If all were woken, a thousand
// workers would ask for one task.
func (q *Queue) announceWork(engine string, tasks int) {
	for range tasks {
		_ = q.nc.Publish(wakeSubject+engine, nil) // workers that miss it look for work every few seconds
	}
}

// Submit puts a job into the queue. It uses the job's ID (see NewID), Priority,
// Engine, Spec, Video and Audio, and sets all other fields. When it returns no
// error, the job is stored.
func (q *Queue) Submit(ctx context.Context, j Job) (Job, error) {
	j.Priority = cmp.Or(j.Priority, Normal)
	if _, ok := q.lines[j.Engine+"."+string(j.Priority)]; !ok || !validID(j.ID) {
		return j, fault.Usage.New("queue job "+j.ID, fmt.Sprintf("engine %q with priority %q is not known", j.Engine, j.Priority),
			"priorities are high, normal and low")
	}
	j.Protocol, j.State, j.Created, j.Tasks = protocol, Queued, time.Now().UTC(), []Task{{Kind: KindWhole, State: Queued}}
	// The message comes first: one without a record is dropped, a record
	// without a message would wait forever.
	var err error
	if j.Tasks[0].Sequence, err = q.send(ctx, j, 0); err != nil {
		return j, err
	}
	b, err := json.Marshal(j)
	if err != nil {
		return j, fault.Internal.Wrap("queue job "+j.ID, err)
	}
	j.Revision, err = cluster.Persist(ctx, func(ctx context.Context) (uint64, error) { return q.jobs.Create(ctx, j.ID, b) })
	if errors.Is(err, jetstream.ErrKeyExists) {
		return q.submitted(ctx, j, b)
	}
	q.announceWork(j.Engine, 1)
	return j, q.failure(err)
}

// errExists is returned by Submit when a job with this ID exists.
var errExists = errors.New("the job exists")

// submitted returns the job that exists under the ID of j. It is j itself if the
// answer to the first attempt to store it was lost. Otherwise the error is errExists.
func (q *Queue) submitted(ctx context.Context, j Job, record []byte) (Job, error) {
	sequence := j.Tasks[0].Sequence
	j, err := q.Job(ctx, j.ID)
	if err != nil || bytes.Equal(j.raw, record) || j.Tasks[0].Sequence == sequence {
		return j, err
	}
	_ = q.work.DeleteMsg(ctx, sequence) // otherwise workers drop it after a minute
	return j, errExists
}

// Cancel ends a job: at once if nobody works on it, otherwise as soon as its
// workers have stopped. It does not change a job that has ended.
func (q *Queue) Cancel(ctx context.Context, id string) (Job, error) {
	j, err := q.change(ctx, id, func(j *Job) error {
		if j.State.Ended() || j.Cancelling {
			return errUnchanged
		}
		if j.Cancelling = true; !j.running() {
			j.close(Cancelled)
		}
		return nil
	})
	if err == nil {
		err = q.end(ctx, j)
	}
	return j, err
}

// Retry restarts a failed or cancelled job. Parts that are done stay done.
func (q *Queue) Retry(ctx context.Context, id string) (Job, error) {
	j, err := q.Job(ctx, id)
	if err != nil {
		return j, err
	}
	restartable := func() bool { return j.State == Failed || j.State == Cancelled }
	refuse := func() error {
		return fault.Usage.New("retry job "+id, "it is "+string(j.State), "retry only failed and cancelled jobs")
	}
	if !restartable() {
		return j, refuse()
	}
	j.Generation++
	sequences := make([]uint64, len(j.Tasks))
	for i, t := range j.Tasks {
		if t.State == Done || t.Kind == KindJoin && !j.partsDone() {
			continue
		}
		if sequences[i], err = q.send(ctx, j, i); err != nil {
			return j, err
		}
	}
	generation := j.Generation
	// Whoever follows the job now reads only the events of the new attempt.
	if err := q.events.Purge(ctx, jetstream.WithPurgeSubject(eventSubject+id)); err != nil {
		return j, q.failure(err)
	}
	j, err = q.change(ctx, id, func(now *Job) error {
		if j = *now; !restartable() || now.Generation != generation-1 || len(now.Tasks) != len(sequences) {
			return refuse()
		}
		now.State, now.Problem, now.Ended, now.Generation = Queued, nil, time.Time{}, generation
		for i := range now.Tasks {
			if t := &now.Tasks[i]; t.State != Done {
				t.State, t.Attempts, t.Lease, t.Sequence = Queued, 0, "", sequences[i]
			}
		}
		return nil
	})
	q.announceWork(j.Engine, len(j.Tasks))
	return j, err
}

// partsDone reports whether the join can start.
func (j *Job) partsDone() bool {
	return !slices.ContainsFunc(j.Tasks, func(t Task) bool { return t.Kind == KindPart && t.State != Done })
}

// Remove deletes a job that has ended, and its log. The caller removes its
// objects.
func (q *Queue) Remove(ctx context.Context, id string) error {
	j, err := q.Job(ctx, id)
	if err != nil {
		return err
	}
	if !j.State.Ended() {
		return fault.Usage.New("remove job "+id, "it has not ended", "cancel it first")
	}
	if err := q.jobs.Purge(ctx, id, jetstream.LastRevision(j.Revision)); err != nil {
		return q.failure(err)
	}
	_ = q.frames.Purge(ctx, id)
	return q.failure(q.events.Purge(ctx, jetstream.WithPurgeSubject(eventSubject+id)))
}
