// Package load measures the server under load.
package load

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/bench/ffmpeg"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/tools/bench/lab"
)

// Options configures Measure.
type Options struct {
	lab.Binary
	Jobs      int    `default:"200" placeholder:"N" help:"Number of jobs to queue; each makes one second of video."`
	Listeners int    `default:"100" placeholder:"N" help:"Number of event streams to follow."`
	Slots     int    `placeholder:"N" help:"Tasks that run at a time. Default: the server decides."`
	Engine    string `default:"preview" placeholder:"preview|latentsync" help:"Engine of the jobs."`
}

// CallResult is the time of one call of the API, in seconds.
type CallResult struct {
	Call    string  `json:"call"`
	Idle    Latency `json:"idle"`
	Loaded  Latency `json:"loaded"`
	Times99 float64 `json:"p99_loaded_by_idle"`
}

// Latency is the distribution of the time of a call, in seconds.
type Latency struct {
	Calls int     `json:"calls"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// Report is the result of Measure. Memory is in bytes and of the server alone, without
// the processes of its tasks.
type Report struct {
	Machine   bench.Machine `json:"machine"`
	Jobs      int           `json:"jobs"`
	Listeners int           `json:"listeners"`
	Done      int           `json:"done"`
	Lost      int           `json:"lost_events"` // missed, or received twice or out of order
	Events    int           `json:"events"`      // received by the listeners
	Elapsed   float64       `json:"elapsed_s"`
	Start     int64         `json:"memory_start"`  // before the first job
	Middle    int64         `json:"memory_middle"` // when half of the jobs were done
	End       int64         `json:"memory_end"`
	Calls     []CallResult  `json:"calls"`
	bench.Results
}

const (
	idleCalls = 200 // how often each call is measured on an idle server
	idlePause = 10 * time.Millisecond
)

// Measure starts lipstream serve with a new data folder and fills its queue. It measures
// calls of the API while listeners follow the jobs, and the same calls again when all
// jobs are done.
func (o Options) Measure(ctx context.Context, progress lab.Progress) (*Report, error) {
	err := cmp.Or(lab.In("jobs", o.Jobs, 1, 10000), lab.In("listeners", o.Listeners, 0, 5000), o.Binary.Check())
	if err != nil {
		return nil, err
	}
	dir, tools, err := lab.Folder(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	c, err := lab.MakeClip(ctx, tools, dir, bench.ClipRate, bench.ClipRate)
	if err != nil {
		return nil, err
	}
	video := filepath.Join(dir, "small.mp4")
	if _, err := ffmpeg.Run(ctx, tools, "-i", c.Video, "-vf", "scale=-2:240,pad=320:240:-1:-1", video); err != nil {
		return nil, err
	}
	s := &run{Options: o, progress: progress, report: Report{Machine: bench.ThisMachine(tools), Jobs: o.Jobs, Listeners: o.Listeners}}
	if err := s.start(ctx, filepath.Join(dir, "data")); err != nil {
		return nil, err
	}
	err = s.measure(ctx, video, c.Voice)
	s.server.Stop(bench.Grace)
	if endErr := s.server.Wait(); err == nil {
		err = fault.Internal.Wrap("end lipstream serve", endErr)
	}
	s.report.figures()
	return &s.report, err
}

// run is a measurement under way.
type run struct {
	Options
	progress lab.Progress
	server   *child.Process
	client   *client.Client
	report   Report
}

func (s *run) start(ctx context.Context, data string) error {
	args := []string{"serve", "--listen", "127.0.0.1:0", "--data", data, "--max-queued", strconv.Itoa(s.Jobs + 10), "--log-level", "warn"}
	server, out, err := child.StartReader(ctx, exec.Command(s.Program, append(args, lab.Flags("--slots", s.Slots)...)...), bench.Grace)
	if err != nil {
		return fault.Internal.Wrap("start "+s.Program, err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() {
		defer out.Close()
		_, _ = io.Copy(io.Discard, out) // ends with the server
	}()
	_, address, ok := strings.Cut(strings.TrimSpace(line), "http://")
	if !ok {
		server.Kill()
		return fault.Internal.Wrap("start lipstream serve", fmt.Errorf("it printed %q: %w", line, server.Wait()))
	}
	s.server, s.client = server, &client.Client{Server: "http://" + address}
	return nil
}

func (s *run) memory() int64 {
	u, _ := memory.Probe{PID: s.server.PID()}.Usage() // 0 after an error
	return u.Self
}

func (s *run) measure(ctx context.Context, video, voice string) error {
	spec := queue.Spec{Split: -1, Settings: lipstream.Settings{Engine: s.Engine}}
	var err error
	if spec.Video.Upload, err = s.client.Upload(ctx, video, nil); err != nil {
		return err
	}
	if spec.Audio.Upload, err = s.client.Upload(ctx, voice, nil); err != nil {
		return err
	}
	// The start-up costs of the first job are not part of the load.
	first, err := s.client.Submit(ctx, spec)
	if err != nil {
		return err
	}
	if err := s.client.Events(ctx, first.ID, "", func(client.Event) error { return nil }); err != nil {
		return err
	}
	calls := s.calls(first.ID)
	for _, c := range calls {
		s.report.Calls = append(s.report.Calls, CallResult{Call: c.name})
	}
	s.report.Start = s.memory()
	if err := s.load(ctx, spec, calls); err != nil {
		return err
	}
	return s.idle(ctx, calls)
}

// idle measures the calls when all jobs are done. The list of jobs is then as long as
// under load.
func (s *run) idle(ctx context.Context, calls []apiCall) error {
	for i, c := range calls {
		var times []time.Duration
		for range idleCalls {
			began := time.Now()
			if err := c.f(ctx); err != nil {
				return err
			}
			times = append(times, time.Since(began))
			time.Sleep(idlePause) // so that, as under load, caches are cold
		}
		s.report.Calls[i].Idle = latency(times)
	}
	return nil
}

type apiCall struct {
	name string
	f    func(context.Context) error
}

func (s *run) calls(id string) []apiCall {
	get := func(path string) func(context.Context) error {
		return func(ctx context.Context) error { return s.client.Get(ctx, path, io.Discard) }
	}
	return []apiCall{
		{"GET /v1/jobs", func(ctx context.Context) error { _, err := s.client.Jobs(ctx, "", 100); return err }},
		{"GET /v1/jobs/{id}", func(ctx context.Context) error { _, err := s.client.Job(ctx, id); return err }},
		{"GET /v1/devices", func(ctx context.Context) error { _, err := s.client.Workers(ctx); return err }},
		{"GET /v1/memory", get("/v1/memory")},
		{"GET /v1/jobs/{id}/result", get("/v1/jobs/" + id + "/result")},
		{"GET /", get("/")},
	}
}

// load fills the queue and measures until all jobs have ended.
func (s *run) load(ctx context.Context, spec queue.Spec, calls []apiCall) error {
	began := time.Now()
	jobs := make([]string, s.Jobs)
	var submits []time.Duration
	for i := range jobs {
		at := time.Now()
		j, err := s.client.Submit(ctx, spec)
		if err != nil {
			return err
		}
		jobs[i], submits = j.ID, append(submits, time.Since(at))
	}
	s.report.Calls = append(s.report.Calls, CallResult{Call: "POST /v1/jobs", Loaded: latency(submits)})
	g, working := errgroup.WithContext(ctx)
	heard := make([][]string, s.Listeners)
	for i := range s.Listeners {
		g.Go(func() error {
			var err error
			heard[i], err = s.events(working, jobs[i%len(jobs)])
			return err
		})
	}
	over := make(chan struct{})
	for i, c := range calls {
		g.Go(func() error {
			var times []time.Duration
			for {
				select {
				case <-over:
					s.report.Calls[i].Loaded = latency(times)
					return nil
				case <-working.Done():
					return working.Err()
				case <-time.After(100 * time.Millisecond):
				}
				at := time.Now()
				if err := c.f(working); err != nil {
					return err
				}
				times = append(times, time.Since(at))
			}
		})
	}
	g.Go(func() error { return s.wait(working, jobs, over) })
	if err := g.Wait(); err != nil {
		return err
	}
	s.report.Elapsed = time.Since(began).Seconds()
	s.report.End = s.memory()
	return s.compare(ctx, jobs, heard)
}

// events follows a job to its end and returns the IDs of its events.
func (s *run) events(ctx context.Context, job string) (ids []string, err error) {
	err = s.client.Events(ctx, job, "", func(e client.Event) error {
		if e.Type != "state" {
			ids = append(ids, e.ID)
		}
		return nil
	})
	return ids, err
}

// wait returns when all jobs have ended.
func (s *run) wait(ctx context.Context, jobs []string, over chan<- struct{}) error {
	defer close(over)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		all, err := s.client.Jobs(ctx, "", 1000)
		if err != nil {
			return err
		}
		ended, done := 0, 0
		for _, j := range all {
			if slices.Contains(jobs, j.ID) && j.State.Ended() {
				if ended++; j.State == queue.Done {
					done++
				}
			}
		}
		s.report.Done = done
		if s.report.Middle == 0 && ended >= len(jobs)/2 {
			s.report.Middle = s.memory()
		}
		s.progress(fmt.Sprintf("%d of %d jobs, %s of memory", ended, len(jobs), memory.Size(s.memory())))
		if ended == len(jobs) {
			return nil
		}
	}
}

// compare reads the events of all jobs again and counts those that the listeners missed.
func (s *run) compare(ctx context.Context, jobs []string, heard [][]string) error {
	for i, ids := range heard {
		all, err := s.events(ctx, jobs[i%len(jobs)])
		if err != nil {
			return err
		}
		s.report.Events += len(ids)
		if !slices.Equal(ids, all) {
			s.report.Lost += max(1, len(all)-len(ids))
		}
	}
	return nil
}

func latency(times []time.Duration) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	slices.Sort(times)
	at := func(share float64) float64 { return times[min(len(times)-1, int(share*float64(len(times))))].Seconds() }
	return Latency{Calls: len(times), P50: at(0.5), P99: at(0.99)}
}

func (r *Report) figures() {
	worst := 0.0
	for i := range r.Calls {
		if c := &r.Calls[i]; c.Idle.P99 > 0 {
			c.Times99 = c.Loaded.P99 / c.Idle.P99
			worst = max(worst, c.Times99)
		}
	}
	r.Figures = []bench.Figure{
		{Key: "jobs_done", Name: "Jobs done", Value: float64(r.Done), Min: new(float64(r.Jobs)), Note: fmt.Sprintf("of %d", r.Jobs)},
		{Key: "lost_events", Name: "Events lost", Value: float64(r.Lost), Max: new(0.0), Note: fmt.Sprintf("%d listeners received %d", r.Listeners, r.Events)},
		{Key: "p99_times", Name: "p99 of the slowest call under load, relative to idle", Value: worst, Unit: bench.Times, Max: new(10.0)},
		{Key: "memory_growth", Name: "Memory of the server at the end, relative to the middle", Value: float64(r.End) / max(1, float64(r.Middle)), Unit: bench.Times, Max: new(1.2),
			Note: fmt.Sprintf("%s at the start, %s in the middle, %s at the end", memory.Size(r.Start), memory.Size(r.Middle), memory.Size(r.End))},
		{Key: "jobs_per_minute", Name: "Jobs a minute", Value: float64(r.Done) / max(r.Elapsed, 1e-9) * 60, Note: "1 s of 320x240 each"},
	}
}

// WriteTable writes the calls and the figures.
func (r *Report) WriteTable(w io.Writer) error {
	ms := func(v float64) string { return fmt.Sprintf("%.1f ms", v*1000) }
	rows := [][]string{{"call", "idle p50", "idle p99", "loaded p50", "loaded p99", "p99 times"}}
	for _, c := range r.Calls {
		times := "-"
		if c.Times99 > 0 {
			times = fmt.Sprintf("%.1f", c.Times99)
		}
		rows = append(rows, []string{c.Call, ms(c.Idle.P50), ms(c.Idle.P99), ms(c.Loaded.P50), ms(c.Loaded.P99), times})
	}
	return lab.WriteReport(w, "", rows, "", r.Figures)
}
