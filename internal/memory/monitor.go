package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The default and the shortest interval of a Monitor.
const (
	DefaultInterval = 2 * time.Second
	MinInterval     = 100 * time.Millisecond
)

// Source is a memory that the caller adds to a Monitor, such as a job's budget.
type Source struct {
	Name string // other than "host", "cgroup" and GPUs' IDs
	// Read returns bytes; a total of 0 is unknown. It is called from the
	// monitor's goroutine only.
	Read func() (used, total int64, err error)
}

// MonitorOptions configures a Monitor. The zero value is valid.
type MonitorOptions struct {
	Interval time.Duration // 0 is 2 s; at least 100 ms
	// Warning and Critical are where the levels begin in each watched memory;
	// their zero values are 62.5 and 75 %.
	Warning, Critical Threshold
	Sources           []Source
	// OnAlert is called at every change of a level, and OnReading after every
	// reading and its alerts. Either may be nil. They are called one at a time
	// from the monitor's goroutine, and never after Stop has returned. They must
	// return soon and must not call Stop.
	OnAlert   func(Alert)
	OnReading func(Reading)
}

// Watched describes one memory at the time of a reading, in bytes.
type Watched struct {
	Name        string // "host", "cgroup", a GPU's ID or a Source's name
	Used, Total int64  // Total is 0 where it is not known
	Level       Level
}

// Reading is everything that a Monitor reads at one time. It is shared and must
// not be changed.
type Reading struct {
	Time   time.Time
	CPU    float64 // share of all processors at work since the last reading, 0 to 1; -1 where it is not known
	Host   Host
	Cgroup Cgroup
	GPUs   []GPU
	// Watched lists the host, the control group (if it has a limit), the GPUs
	// with their own memory and the caller's sources, as far as they could be
	// read. Caches that the system can drop do not count as used.
	Watched []Watched
	Err     error // of what could not be read
}

// Monitor reads the host, the control group, the GPUs and the caller's sources at
// an interval in its own goroutine, and raises alerts. Its methods are safe for
// concurrent use.
type Monitor struct {
	probe   Probe
	options MonitorOptions

	deliver sync.Mutex // held while a callback runs, and by Stop
	stop    context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	now     Reading
	history history[Reading]
	levels  map[string]Level
}

// NewMonitor returns a monitor, which reads nothing before Start. An interval that
// is too short becomes the shortest one.
func NewMonitor(p Probe, o MonitorOptions) *Monitor {
	o.Interval = max(cmp.Or(o.Interval, DefaultInterval), MinInterval)
	o.Warning, o.Critical = cmp.Or(o.Warning, DefaultWarning), cmp.Or(o.Critical, DefaultCritical)
	return &Monitor{probe: p, options: o, levels: map[string]Level{}, done: make(chan struct{})}
}

// Start begins to read, at once and then at every interval, until Stop or the
// end of ctx. It does not wait for the first reading, because opening a GPU's
// driver can take a second. A monitor starts once.
func (m *Monitor) Start(ctx context.Context) {
	ctx, m.stop = context.WithCancel(ctx)
	go m.run(ctx)
}

// Stop ends a monitor that was started. It does not wait for a reading that hangs in
// a driver: the goroutine ends after it, and its result is dropped. The figures stay
// available.
func (m *Monitor) Stop() {
	m.stop()
	// Wait for a callback that is running.
	m.deliver.Lock()
	defer m.deliver.Unlock()
}

// Now returns the latest reading. Its Time is zero before the first one.
func (m *Monitor) Now() Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// History returns readings from Start until now, oldest first and evenly spaced.
// The longer the monitor runs, the farther apart they are: at most 1200 are kept.
func (m *Monitor) History() []Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.history.list)
}

// Level returns the current level of a memory by its name as in Reading.Watched,
// Normal for an unknown name. A memory that can no longer be read keeps its
// level.
func (m *Monitor) Level(name string) Level {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.levels[name]
}

func (m *Monitor) run(ctx context.Context) {
	defer close(m.done)
	defer m.stop()
	gpus := m.probe.OpenGPUs()
	defer func() { _ = gpus.Close() }() // its error has no consequences
	cpu := &cpuMeter{probe: m.probe}
	t := time.NewTicker(m.options.Interval)
	defer t.Stop()
	for ctx.Err() == nil {
		m.publish(ctx, m.read(gpus, cpu))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// read reads everything, without the levels.
func (m *Monitor) read(gpus *GPUReader, cpu *cpuMeter) Reading {
	r := Reading{CPU: cpu.read()}
	var errs []error
	note := func(what string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
		return err == nil
	}
	watch := func(name string, used, total int64) {
		r.Watched = append(r.Watched, Watched{Name: name, Used: used, Total: total})
	}
	var err error
	if r.Host, err = m.probe.Host(); note("host", err) {
		watch("host", r.Host.Total-r.Host.Available, r.Host.Total)
	}
	if r.Cgroup, err = m.probe.Cgroup(); note("control group", err) && r.Cgroup.Limit > 0 {
		watch("cgroup", r.Cgroup.Limit-r.Cgroup.Available, r.Cgroup.Limit)
	}
	r.GPUs, err = gpus.Read()
	note("GPUs", err)
	for _, g := range r.GPUs {
		if !g.Shared && g.Total > 0 {
			watch(g.ID(), g.Used, g.Total)
		}
	}
	for _, s := range m.options.Sources {
		if used, total, err := s.Read(); note(s.Name, err) {
			watch(s.Name, used, total)
		}
	}
	r.Time, r.Err = time.Now(), errors.Join(errs...)
	return r
}

// publish makes r the current reading and calls the callbacks, unless the monitor
// has ended meanwhile.
func (m *Monitor) publish(ctx context.Context, r Reading) {
	m.deliver.Lock()
	defer m.deliver.Unlock()
	if ctx.Err() != nil {
		return
	}
	alerts := m.keep(r)
	if m.options.OnAlert != nil {
		for _, a := range alerts {
			m.options.OnAlert(a)
		}
	}
	if m.options.OnReading != nil {
		m.options.OnReading(r)
	}
}

// keep sets the levels in r, adds r to the history and returns the alerts.
func (m *Monitor) keep(r Reading) (alerts []Alert) {
	m.mu.Lock()
	defer m.mu.Unlock()
	limits := map[Level]Threshold{Warning: m.options.Warning, Critical: m.options.Critical}
	for i := range r.Watched {
		w := &r.Watched[i]
		was := m.levels[w.Name]
		w.Level = nextLevel(was, w.Used, w.Total, m.options.Warning, m.options.Critical)
		m.levels[w.Name] = w.Level
		if w.Level != was {
			alerts = append(alerts, Alert{
				Time: r.Time, Source: w.Name, Was: was, Level: w.Level,
				Used: w.Used, Total: w.Total, Limit: limits[max(was, w.Level)].Of(w.Total),
			})
		}
	}
	m.now = r
	m.history.add(r)
	return alerts
}
