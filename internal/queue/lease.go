package queue

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stubs: being written.

type Queue struct{}

func Open(ctx context.Context, o Options) (*Queue, error) { panic("todo") }
func (q *Queue) Close() error                              { panic("todo") }

// Conn and JetStream are what an object store needs.
func (q *Queue) Conn() *nats.Conn               { panic("todo") }
func (q *Queue) JetStream() jetstream.JetStream { panic("todo") }

// ---- clients

// Submit takes ID (NewID), Priority, Engine, Spec, Video, Audio; sets the rest.
func (q *Queue) Submit(ctx context.Context, j Job) (Job, error)        { panic("todo") }
func NewID() string                                                     { panic("todo") }
func (q *Queue) Job(ctx context.Context, id string) (Job, error)        { panic("todo") } // ErrNoJob
func (q *Queue) Jobs(ctx context.Context) ([]Job, error)                { panic("todo") } // newest first
func (q *Queue) Cancel(ctx context.Context, id string) (Job, error)     { panic("todo") }
func (q *Queue) Retry(ctx context.Context, id string) (Job, error)      { panic("todo") } // of failed and cancelled jobs
func (q *Queue) Remove(ctx context.Context, id string) error            { panic("todo") } // of ended jobs: record and events
func (q *Queue) Watch(ctx context.Context, f func(id string, j *Job)) error { panic("todo") } // every record, then every change, until ctx ends; nil: removed
func (q *Queue) Events(ctx context.Context, id string, after uint64, f func(Event) error) error { panic("todo") } // until Last, ctx or f's error
func (q *Queue) Frame(ctx context.Context, id string) (Frame, error)    { panic("todo") } // the latest preview; ErrNoFrame
func (q *Queue) Workers(ctx context.Context) ([]Worker, error)          { panic("todo") } // that live
func (q *Queue) Health(ctx context.Context) error                       { panic("todo") }

// Frame is a picture of a job at work.
type Frame struct {
	Index int64  // of the output
	JPEG  []byte // at most 640 pixels wide
}

// ---- workers

func (q *Queue) Announce(ctx context.Context, w Worker) error { panic("todo") } // heartbeat; every few seconds
func (q *Queue) Leave(ctx context.Context, id string) error   { panic("todo") }

// Take waits for a task of one of the engines; cost says whether it can be
// taken now.
func (q *Queue) Take(ctx context.Context, worker string, engines []string) (*Lease, error) { panic("todo") }

// Lease is a task in the hands of this worker. It is kept alive until one of
// Done, Split, Fail and Release.
type Lease struct {
	Job   Job
	Index int // of the task in Job.Tasks
}

func (l *Lease) Task() Task { return l.Job.Tasks[l.Index] }

// Context ends when ctx ends, the job is cancelled or the lease was lost;
// its cause is ErrCancelled or ErrLost.
func (l *Lease) Context() context.Context                                 { panic("todo") }
func (l *Lease) Event(ctx context.Context, data []byte) error             { panic("todo") }
func (l *Lease) Frame(ctx context.Context, f Frame) error                 { panic("todo") }
func (l *Lease) Split(ctx context.Context, parts []Part) error            { panic("todo") } // of KindWhole, by its worker: parts and join take its place
func (l *Lease) DonePart(ctx context.Context, object string, frames int64) error { panic("todo") }
func (l *Lease) Done(ctx context.Context, r Result) error                 { panic("todo") } // of KindWhole and KindJoin
func (l *Lease) Fail(ctx context.Context, p Problem, again bool) error    { panic("todo") } // again: worth another attempt
func (l *Lease) Release(ctx context.Context) error                        { panic("todo") } // gives it back, uncounted
func (l *Lease) Cancelled(ctx context.Context) error                      { panic("todo") } // after ErrCancelled: the worker has stopped
