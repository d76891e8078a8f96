// Package fleet measures the queue with many workers that only pretend to work.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/process"
	"golang.org/x/sync/errgroup"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// Options configures Measure.
type Options struct {
	Workers int           `default:"1000" placeholder:"N" help:"Number of workers, each with a connection of its own."`
	Jobs    int           `default:"10000" placeholder:"N" help:"Number of jobs: a tenth of high priority, a tenth of low priority, the rest normal."`
	Task    time.Duration `default:"20s" placeholder:"TIME" help:"Mean time that a worker pretends to work on a task."`
	Lease   time.Duration `default:"30s" placeholder:"TIME" help:"Time after which the task of a lost worker is given to another one."`
	Lose    float64       `default:"0.333" placeholder:"SHARE" help:"Share of the workers that is lost when half of the jobs are done."`
}

// Report is the result of Measure. Times are in seconds.
type Report struct {
	Options
	Machine  bench.Machine `json:"machine"`
	Elapsed  float64       `json:"elapsed_s"` // from the first job taken to the last one done
	Done     int           `json:"done"`
	Twice    int           `json:"done_twice"`
	Lost     int           `json:"tasks_lost"`    // with their workers
	Recovery float64       `json:"recovery_s"`    // from the loss until the last lost task was taken again
	Busy     float64       `json:"busy"`          // share of the workers' time in which they worked, until the line was empty
	Requests float64       `json:"requests_job"`  // messages that workers and submitters sent, by job
	CPU      float64       `json:"cpu_job_s"`     // of NATS and all workers, by job
	Idle     float64       `json:"idle_requests"` // messages a second that an idle worker sends
	Order    float64       `json:"order"`         // see overtaken
	Shares   [3]int        `json:"shares"`        // jobs of the surviving worker with the fewest, the median, the most
	Waits    [3]float64    `json:"waits_s"`       // median time until a job of high, normal and low priority begins
	Rows     []Row         `json:"rows"`
	bench.Results
}

// Row is a period of the measurement.
type Row struct {
	Name    string  `json:"name"`
	Workers int     `json:"workers"`
	Seconds float64 `json:"seconds"`
	Jobs    int     `json:"jobs"` // done in it
	Ideal   float64 `json:"jobs_ideal"`
}

var priorities = []queue.Priority{queue.High, queue.Normal, queue.Low}

// run is a measurement under way.
type run struct {
	Options
	progress lab.Progress
	lead     *queue.Queue

	mu       sync.Mutex
	workers  []*worker
	order    map[string]int       // of submission
	began    map[string]time.Time // the last time
	started  []string             // jobs in the order in which they were first taken
	done     map[string]int       // times
	ended    map[string]bool
	ends     []time.Time          // of jobs, in order
	lostJobs map[string]time.Time // when they were taken again
	waits    map[queue.Priority][]float64
	first    time.Time
	gone     time.Time // when workers were lost
	over     chan struct{}
	half     chan struct{}
}

// worker takes tasks and pretends to work on them.
type worker struct {
	name   string
	q      *queue.Queue
	cancel context.CancelFunc
	job    string // that it works on
	jobs   int
	busy   time.Duration
	lost   bool
}

// Measure starts a queue in a temporary folder, submits the jobs and lets the workers do
// them. When half of the jobs are done, it cuts the connections of a share of the workers.
func (o Options) Measure(ctx context.Context, progress lab.Progress) (_ *Report, err error) {
	err = cmp.Or(lab.In("workers", o.Workers, 2, 5000), lab.In("jobs", o.Jobs, 10, 100000))
	if err == nil && (o.Lose < 0 || o.Lose > 0.9) {
		err = fault.Field("lose", fmt.Sprint(o.Lose), "is out of range", "use a share from 0 to 0.9")
	}
	if err == nil && o.Task <= 0 {
		err = fault.Field("task", o.Task.String(), "is no time to work", "use a time such as 20s")
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lipstream-fleet-")
	if err != nil {
		return nil, fault.Output.Wrap("make a temporary folder", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s := &run{Options: o, progress: progress, order: map[string]int{}, began: map[string]time.Time{}, done: map[string]int{}, ended: map[string]bool{}, lostJobs: map[string]time.Time{},
		waits: map[queue.Priority][]float64{}, over: make(chan struct{}), half: make(chan struct{})}
	if s.lead, err = queue.Open(ctx, queue.Options{Dir: dir, Listen: "127.0.0.1:0", Lead: true, Version: lipstream.Version(), Lease: o.Lease, Attempts: 10}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.lead.Close()) }()
	r := &Report{Options: o, Machine: bench.ThisMachine(media.Tools{})}
	err = s.measure(ctx, r)
	for _, w := range s.workers {
		_ = w.q.Close()
	}
	if err != nil {
		return nil, err
	}
	r.figures()
	return r, nil
}

func (s *run) measure(ctx context.Context, r *Report) error {
	s.progress(fmt.Sprintf("%d workers connect", s.Workers))
	if err := s.connect(ctx); err != nil {
		return err
	}
	working, end := context.WithCancel(ctx)
	g, working := errgroup.WithContext(working)
	defer func() {
		end()
		_ = g.Wait()
	}()
	for i, w := range s.workers {
		ctx, cancel := context.WithCancel(working)
		w.cancel = cancel
		g.Go(func() error { return s.work(ctx, w, rand.New(rand.NewPCG(1, uint64(i)))) })
		g.Go(func() error { return s.announce(ctx, w) })
	}
	sent, idle := s.sent(), min(10*time.Second, 20*s.Task)
	if err := pause(ctx, idle); err != nil {
		return err
	}
	r.Idle = float64(s.sent()-sent) / idle.Seconds() / float64(s.Workers)
	s.progress(fmt.Sprintf("idle: %.1f messages a second from each worker", r.Idle))

	sent, cpu := s.sent(), cpuTime()
	g.Go(func() error { return s.submit(working) })
	g.Go(func() error { return s.watch(working) })
	g.Go(func() error { return s.lead.Watch(working, s.end) })
	var lost []*worker
	select {
	case <-working.Done():
		return cmp.Or(g.Wait(), ctx.Err())
	case <-s.half:
		lost = s.lose()
	}
	select {
	case <-working.Done():
		return cmp.Or(g.Wait(), ctx.Err())
	case <-s.over:
	}
	r.CPU = (cpuTime() - cpu).Seconds() / float64(s.Jobs)
	r.Requests = float64(s.sent()-sent) / float64(s.Jobs)
	end()
	if err := g.Wait(); err != nil {
		return err
	}
	s.summarize(r, len(lost))
	return nil
}

// connect opens a connection for each worker.
func (s *run) connect(ctx context.Context) error {
	s.workers = make([]*worker, s.Workers)
	var g errgroup.Group
	g.SetLimit(16)
	for i := range s.workers {
		g.Go(func() (err error) {
			w := &worker{name: fmt.Sprint("worker", i)}
			w.q, err = queue.Open(ctx, queue.Options{URL: s.lead.Address(), Version: lipstream.Version()})
			s.workers[i] = w
			return err
		})
	}
	err := g.Wait()
	s.workers = slices.DeleteFunc(s.workers, func(w *worker) bool { return w == nil || w.q == nil })
	return err
}

// sent returns how many messages the workers and the submitter have sent.
func (s *run) sent() (n uint64) {
	for _, w := range s.workers {
		n += w.q.Conn().Stats().OutMsgs
	}
	return n + s.lead.Conn().Stats().OutMsgs
}

// submit submits all jobs.
func (s *run) submit(ctx context.Context) error {
	for i := range s.Jobs {
		p := queue.Normal
		switch i % 10 {
		case 3:
			p = queue.High
		case 7:
			p = queue.Low
		}
		j := queue.Job{ID: queue.NewID(), Priority: p, Engine: "preview"}
		s.mu.Lock()
		s.order[j.ID] = i
		s.mu.Unlock()
		if _, err := s.lead.Submit(ctx, j); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return nil
}

// announce reports the worker as real workers do.
func (s *run) announce(ctx context.Context, w *worker) error {
	for {
		if err := w.q.Announce(ctx, queue.Worker{ID: w.name, Engines: []string{"preview"}}); err != nil && ctx.Err() == nil {
			return err
		}
		if pause(ctx, 5*time.Second) != nil {
			return nil
		}
	}
}

// work takes tasks until ctx ends.
func (s *run) work(ctx context.Context, w *worker, random *rand.Rand) error {
	for {
		l, err := w.q.Take(ctx, w.name, []string{"preview"})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		began := s.take(w, l.Job)
		// Between half and one and a half of the mean.
		err = pause(ctx, time.Duration(float64(s.Task)*(0.5+random.Float64())))
		for range 2 {
			if err == nil {
				err = l.Event(ctx, lipstream.Event{Type: lipstream.EventProgress, Time: time.Now()})
			}
		}
		if err == nil {
			err = l.Done(ctx, queue.Result{Object: "results/" + l.Job.ID + ".mp4", Frames: 1})
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, queue.ErrLost) {
			return err
		}
		s.finish(w, l.Job, began, err == nil)
	}
}

// take notes that a worker has begun a job.
func (s *run) take(w *worker, j queue.Job) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.first.IsZero() {
		s.first = now
	}
	if _, again := s.began[j.ID]; !again {
		s.started = append(s.started, j.ID)
		s.waits[j.Priority] = append(s.waits[j.Priority], now.Sub(s.first).Seconds())
	}
	if at, lost := s.lostJobs[j.ID]; lost && at.IsZero() {
		s.lostJobs[j.ID] = now
	}
	s.began[j.ID], w.job = now, j.ID
	return now
}

// finish notes that a worker has ended a job.
func (s *run) finish(w *worker, j queue.Job, began time.Time, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.job, w.busy = "", w.busy+time.Since(began)
	if !done {
		return
	}
	w.jobs++
	s.done[j.ID]++
}

// end notes that the record of a job says that it is done.
func (s *run) end(id string, j *queue.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j == nil || j.State != queue.Done || s.ended[id] {
		return
	}
	s.ended[id] = true
	switch s.ends = append(s.ends, time.Now()); len(s.ends) {
	case s.Jobs / 2:
		close(s.half)
	case s.Jobs:
		close(s.over)
	}
}

// watch reports the progress.
func (s *run) watch(ctx context.Context) error {
	for pause(ctx, 5*time.Second) == nil {
		s.mu.Lock()
		line := fmt.Sprintf("%d of %d jobs done, %d begun", len(s.ends), s.Jobs, len(s.started))
		s.mu.Unlock()
		s.progress(line)
	}
	return nil
}

// lose cuts the connections of a share of the workers, as if their machines were off.
func (s *run) lose() []*worker {
	lost := s.workers[:int(math.Round(float64(s.Workers)*s.Lose))]
	s.mu.Lock()
	s.gone = time.Now()
	for _, w := range lost {
		if w.lost = true; w.job != "" && !s.ended[w.job] {
			s.lostJobs[w.job] = time.Time{}
		}
	}
	s.progress(fmt.Sprintf("%d workers lost, with %d tasks", len(lost), len(s.lostJobs)))
	s.mu.Unlock()
	for _, w := range lost {
		w.cancel() // first, so that its errors do not count
		w.q.Conn().Close()
	}
	return lost
}

// cpuTime returns the CPU time that this process has used. NATS and the workers run in it.
func cpuTime() time.Duration {
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return 0
	}
	t, err := p.Times()
	if err != nil {
		return 0
	}
	return time.Duration((t.User + t.System) * float64(time.Second))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// summarize fills in the report.
func (s *run) summarize(r *Report, lost int) {
	last := s.ends[len(s.ends)-1]
	r.Elapsed, r.Done, r.Lost = last.Sub(s.first).Seconds(), len(s.ends), len(s.lostJobs)
	for _, n := range s.done {
		r.Twice += max(0, n-1)
	}
	for _, at := range s.lostJobs {
		if !at.IsZero() {
			r.Recovery = max(r.Recovery, at.Sub(s.gone).Seconds())
		}
	}
	// The time until the last job is taken: afterwards workers have nothing to do.
	full := s.began[s.started[len(s.started)-1]]
	period := func(name string, workers int, from, to time.Time) {
		row := Row{Name: name, Workers: workers, Seconds: to.Sub(from).Seconds()}
		for _, at := range s.ends {
			if !at.Before(from) && at.Before(to) {
				row.Jobs++
			}
		}
		row.Ideal = row.Seconds * float64(workers) / s.Task.Seconds()
		r.Rows = append(r.Rows, row)
	}
	// The first tasks end half a task after the first job was taken, and all workers have
	// taken one by then.
	period("all workers", s.Workers, s.first.Add(s.Task), s.gone)
	period("after the loss", s.Workers-lost, s.gone, full)
	var jobs []int
	var busy, available float64
	for _, w := range s.workers {
		if !w.lost {
			jobs = append(jobs, w.jobs)
			busy += w.busy.Seconds()
			available += last.Sub(s.first).Seconds()
		}
	}
	slices.Sort(jobs)
	r.Busy = busy / available
	r.Shares = [3]int{jobs[0], jobs[len(jobs)/2], jobs[len(jobs)-1]}
	for i, p := range priorities {
		if w := s.waits[p]; len(w) > 0 {
			slices.Sort(w)
			r.Waits[i] = w[len(w)/2]
		}
	}
	r.Order = s.overtaken()
}

// overtaken returns by how many places of its line the 99th percentile of the jobs of
// normal priority began too late.
func (s *run) overtaken() float64 {
	var late []float64
	place := 0
	var line []int
	for _, id := range s.started {
		if i := s.order[id]; i%10 != 3 && i%10 != 7 {
			line = append(line, i)
		}
	}
	sorted := slices.Sorted(slices.Values(line))
	for _, i := range line {
		right, _ := slices.BinarySearch(sorted, i)
		late = append(late, float64(place-right))
		place++
	}
	slices.Sort(late)
	return max(0, late[min(len(late)-1, len(late)*99/100)])
}

func (r *Report) figures() {
	limit := r.Lease.Seconds() + 10
	before, after := r.Rows[0], r.Rows[1]
	r.Figures = []bench.Figure{
		{Key: "jobs_done", Name: "Jobs done", Value: float64(r.Done), Min: new(float64(r.Jobs)), Note: fmt.Sprintf("of %d", r.Jobs)},
		{Key: "done_twice", Name: "Jobs done twice", Value: float64(r.Twice), Max: new(0.0)},
		{Key: "throughput", Name: "Throughput with all workers, relative to the ideal", Value: float64(before.Jobs) / max(1e-9, before.Ideal), Unit: bench.Times, Min: new(0.9)},
		{Key: "throughput_lost", Name: "Throughput after the loss, relative to the ideal", Value: float64(after.Jobs) / max(1e-9, after.Ideal), Unit: bench.Times, Min: new(0.8)},
		{Key: "recovery_s", Name: "Time until the last lost task was taken again", Value: r.Recovery, Unit: bench.Seconds, Max: new(limit), Note: fmt.Sprintf("%d tasks, lease %v", r.Lost, r.Lease)},
		{Key: "order", Name: "Places that jobs began too late (99th percentile)", Value: r.Order, Max: new(float64(r.Workers))},
		{Key: "idle", Name: "Messages that an idle worker sends, a second", Value: r.Idle, Max: new(5.0)},
		{Key: "requests", Name: "Messages sent by job, with those of waiting workers", Value: r.Requests},
		{Key: "cpu_s", Name: "CPU time by job, of NATS and all workers, in ms", Value: r.CPU * 1000},
	}
}

// WriteTable writes the periods and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	rows := [][]string{{"period", "workers", "time", "jobs done", "ideal"}}
	for _, p := range r.Rows {
		rows = append(rows, []string{p.Name, fmt.Sprint(p.Workers), fmt.Sprintf("%.1f s", p.Seconds), fmt.Sprint(p.Jobs), fmt.Sprintf("%.0f", p.Ideal)})
	}
	note := fmt.Sprintf("Jobs by worker: %d to %d, median %d. Median wait by priority: high %.0f s, normal %.0f s, low %.0f s.\n\n",
		r.Shares[0], r.Shares[2], r.Shares[1], r.Waits[0], r.Waits[1], r.Waits[2])
	return lab.WriteReport(w, "", rows, note, r.Figures)
}
