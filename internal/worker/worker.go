// Package worker takes tasks from the queue and does each in a process of its own.
// It runs as many at the same time as the machine's memory allows.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
)

// Options configures a Worker. Queue, Store and Dir are required.
type Options struct {
	Queue *queue.Queue
	Store *store.Store
	Dir   string // for media and running tasks; used by this worker only

	ID      string   // default: host, process and a random part
	Slots   int      // tasks at the same time; 0: one for every two processors
	Memory  int64    // that all tasks together may use, bytes; 0: what is free
	Engines []string // default: what this machine can do
	Split   time.Duration
	Limits  lipstream.Limits
	Grace   time.Duration // for running tasks when the worker shuts down
	Command []string      // of a task's process; default: this program's task command
	Log     *slog.Logger
}

const heartbeat = 4 * time.Second

// Worker does tasks.
type Worker struct {
	o             Options
	log           *slog.Logger
	memory        *semaphore.Weighted
	cache         *store.Cache
	work          string // folder of tasks at work
	journals      string
	lock          *disk.Lock
	drained       context.Context // ends when tasks at work are to be given back
	giveBack      context.CancelFunc
	stopGrace     time.Duration // see stopGrace
	eventInterval time.Duration // see eventInterval

	mu   sync.Mutex
	info queue.Worker
}

// ErrHurry, as the cause of the end of Run's context, means that there is no time for
// running tasks to finish: the system will end this process.
var ErrHurry = fmt.Errorf("the system ends this program: %w", context.Canceled)

// errDrained is the cause when running tasks are given back.
var errDrained = errors.New("the worker is shutting down")

// New returns a worker for this machine. It takes no task before Run.
func New(ctx context.Context, o Options) (*Worker, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if o.ID == "" {
		id := queue.NewID()
		o.ID = fmt.Sprintf("%s-%d-%s", keyText(host), os.Getpid(), id[len(id)-4:])
	}
	if o.Slots <= 0 {
		o.Slots = max(1, runtime.NumCPU()/2)
	}
	if len(o.Command) == 0 {
		program, err := os.Executable()
		if err != nil {
			return nil, fault.Internal.Wrap("find this program", err)
		}
		o.Command = []string{program, "task"}
	}
	if o.Memory == 0 {
		b, err := memory.Probe{}.Budget(0, nil)
		if err != nil {
			return nil, fault.Internal.Wrap("find out the memory of "+host, err)
		}
		o.Memory = b.Host
	}
	w := &Worker{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), memory: semaphore.NewWeighted(o.Memory), stopGrace: stopGrace, eventInterval: eventInterval,
		work: filepath.Join(o.Dir, "work"), journals: filepath.Join(o.Dir, "journal")}
	w.drained, w.giveBack = context.WithCancel(context.WithoutCancel(ctx))
	if err := w.prepareDir(); err != nil {
		return nil, err
	}
	var devices []queue.Device
	if len(o.Engines) == 0 {
		a, err := w.ask(ctx, request{Op: opMachine}, nil)
		if err != nil {
			return nil, fault.Missing.Wrap("examine this machine", err, cmp.Or(fault.HintOf(err), "run lipstream doctor"))
		}
		w.o.Engines, devices = a.Machine.Engines, a.Machine.Devices
	}
	w.info = queue.Worker{
		ID: o.ID, Host: host, PID: os.Getpid(), Version: lipstream.Version(), Started: time.Now().UTC(), Engines: w.o.Engines,
		Slots: o.Slots, Devices: devices, Memory: o.Memory,
	}
	return w, nil
}

// keyText replaces the characters that NATS does not allow in a key.
func keyText(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, s)
}

// prepareDir creates the folders, locks them against a second worker, and removes the
// tasks that a crash left behind.
func (w *Worker) prepareDir() error {
	var err error
	if w.lock, err = store.Own(w.o.Dir); err != nil {
		return err
	}
	if w.cache, err = store.NewCache(filepath.Join(w.o.Dir, "cache"), w.o.Store); err != nil {
		return err
	}
	err = errors.Join(disk.RemoveAll(w.work), os.MkdirAll(w.work, 0o700), os.MkdirAll(w.journals, 0o700))
	return fault.Output.Wrap("use the folder "+w.o.Dir, fault.WithoutPath(err), "choose another folder with `data`")
}

// Info returns the description that the worker publishes.
func (w *Worker) Info() queue.Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.info
	i.Engines, i.Devices = slices.Clone(i.Engines), slices.Clone(i.Devices)
	return i
}

func (w *Worker) change(f func(*queue.Worker)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.info)
}

// Run takes tasks until ctx ends. Running tasks then have Options.Grace to finish (none
// after ErrHurry); after it they are given back to the queue. When Run returns, all
// processes have ended.
func (w *Worker) Run(ctx context.Context) {
	defer func() { _ = w.lock.Release() }()
	over := make(chan struct{})
	var beats, slots sync.WaitGroup
	beats.Go(func() { w.announce(ctx, over) })
	for range w.o.Slots {
		slots.Go(func() { w.loop(ctx) })
	}
	<-ctx.Done()
	w.change(func(i *queue.Worker) { i.Draining = true })
	grace := w.o.Grace
	if errors.Is(context.Cause(ctx), ErrHurry) {
		grace = 0
	}
	waited := time.AfterFunc(grace, w.giveBack)
	slots.Wait()
	waited.Stop()
	close(over)
	beats.Wait()
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer stop()
	if err := w.o.Queue.Leave(last, w.o.ID); err != nil {
		w.log.Debug("worker", "error", err) // its entry expires
	}
}

// announce publishes the worker's state until over is closed.
func (w *Worker) announce(ctx context.Context, over <-chan struct{}) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		tell, stop := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
		err := w.o.Queue.Announce(tell, w.Info())
		stop()
		if err != nil {
			w.log.Warn("worker: the server does not answer", "error", err)
		}
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

// loop does one task after the other.
func (w *Worker) loop(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := w.o.Queue.Take(ctx, w.o.ID, w.o.Engines)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Error("worker: no task could be taken, trying again", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(heartbeat):
				}
			}
			continue
		}
		w.change(func(i *queue.Worker) { i.Busy++ })
		w.do(l)
		w.change(func(i *queue.Worker) { i.Busy-- })
	}
}

// Estimate estimates a job. It does not wait for memory.
func (w *Worker) Estimate(ctx context.Context, job lipstream.Job) (lipstream.Estimate, error) {
	job.Limits = w.o.Limits
	a, err := w.ask(ctx, request{Op: opEstimate, Job: job}, nil)
	if err != nil {
		return lipstream.Estimate{}, err
	}
	return *a.Estimate, nil
}
