package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lipstream/lipstream/internal/chart"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

type monitorCmd struct {
	Interval time.Duration `default:"2s" placeholder:"TIME" help:"Time between two readings, at least 100ms."`
	For      time.Duration `placeholder:"TIME" help:"Stop after this time. Default: at Ctrl-C."`
	PID      int           `name:"pid" placeholder:"N" help:"Watch this process and its children too, and the control group that it is in; stop when it ends."`
	Warn     string        `default:"62.5%" placeholder:"62.5%" help:"Where the warning begins in each memory: a share or a size (15GB)."`
	Alert    string        `default:"75%" placeholder:"75%" help:"Where the alert begins in each memory: a share or a size (18GB)."`
	CSV      string        `name:"csv" placeholder:"FILE" help:"Write every reading as rows of a CSV file."`
	Plot     string        `placeholder:"FILE.png|.svg" help:"At the end, draw the memory over time."`
	JSON     bool          `name:"json" help:"Print every reading as a line of JSON."`
}

const monitorOp = "monitor memory"

// Run implements lipstream monitor. Ctrl-C is its normal end.
func (m *monitorCmd) Run(ctx context.Context, c *console) error {
	options, err := m.options()
	if err != nil {
		return err
	}
	probe := memory.Probe{PID: m.PID}
	if m.PID != 0 {
		if _, err := probe.Usage(); err != nil {
			return fault.Usage.Wrap("watch process "+fmt.Sprint(m.PID), err, "give the number of a process that runs and that you may look at")
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if m.For > 0 {
		ctx, stop = context.WithTimeout(ctx, m.For)
		defer stop()
	}
	readings, ended := make(chan memory.Reading, 1), make(chan struct{})
	options.OnReading = func(r memory.Reading) {
		select {
		case readings <- r:
		case <-ctx.Done():
		}
	}
	if m.PID != 0 {
		options.Sources = []memory.Source{{Name: fmt.Sprintf("pid:%d", m.PID), Read: func() (int64, int64, error) {
			u, err := probe.Usage()
			if errors.Is(err, os.ErrNotExist) {
				select {
				case <-ended:
				default:
					close(ended) // Read is called from one goroutine only
				}
			}
			return u.Total(), 0, err
		}}}
	}
	out, err := m.open(c)
	if err != nil {
		return err
	}
	monitor := memory.NewMonitor(probe, options)
	monitor.Start(ctx)
	err = follow(ctx, readings, ended, out)
	stop()
	monitor.Stop()
	return errors.Join(err, out.close(), m.plot(monitor.History(), options))
}

// options checks the command line.
func (m *monitorCmd) options() (o memory.MonitorOptions, err error) {
	if o.Warning, err = memory.ParseThreshold(m.Warn); err != nil {
		return o, err
	}
	if o.Critical, err = memory.ParseThreshold(m.Alert); err != nil {
		return o, err
	}
	if o.Interval = m.Interval; o.Interval == 0 {
		o.Interval = -1 // "0s" was asked for; in the options it is the default
	}
	if err := o.Check(); err != nil {
		return o, err
	}
	if m.For < 0 || m.PID < 0 {
		return o, fault.Usage.New(monitorOp, "--for and --pid cannot be negative", "give a positive one, or leave it out")
	}
	if m.Plot != "" {
		return o, chart.CheckPath(m.Plot)
	}
	return o, nil
}

// follow shows readings until the end of ctx, of the watched process or of
// the reader of what is written.
func follow(ctx context.Context, readings <-chan memory.Reading, ended <-chan struct{}, out *monitorOutput) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return nil
		case r := <-readings:
			if err := out.show(r); err != nil {
				return err
			}
		}
	}
}

// plot draws the share of each memory that is used: memories of unlike size
// fit into one chart, and the thresholds are the same for all. Where thresholds
// are sizes, or a total is not known, it draws GiB.
func (m *monitorCmd) plot(history []memory.Reading, o memory.MonitorOptions) error {
	if m.Plot == "" {
		return nil
	}
	if len(history) == 0 {
		return fault.Output.New("write chart "+m.Plot, "there was no reading yet", "let it run a little longer")
	}
	return monitorChart(history, o).Save(m.Plot)
}

func monitorChart(history []memory.Reading, o memory.MonitorOptions) chart.Chart {
	shares := o.Warning.Bytes == 0 && o.Critical.Bytes == 0
	for _, r := range history {
		for _, w := range r.Watched {
			shares = shares && w.Total > 0
		}
	}
	c := chart.Chart{Title: "Memory in use", X: "time (s)", Y: "memory in use (GiB)"}
	if shares {
		c.Y = "memory in use (%)"
	}
	index, totals := map[string]int{}, map[int64]bool{}
	for _, r := range history {
		for _, w := range r.Watched {
			i, ok := index[w.Name]
			if !ok {
				i = len(c.Series)
				index[w.Name] = i
				c.Series = append(c.Series, chart.Series{Name: watchedName(r, w)})
				if w.Total > 0 {
					totals[w.Total] = true
				}
			}
			s := &c.Series[i]
			s.X = append(s.X, r.Time.Sub(history[0].Time).Seconds())
			if shares {
				s.Y = append(s.Y, 100*float64(w.Used)/float64(w.Total))
			} else {
				s.Y = append(s.Y, float64(w.Used)/(1<<30))
			}
		}
	}
	for _, l := range []struct {
		name string
		at   memory.Threshold
	}{{"warning", o.Warning}, {"alert", o.Critical}} {
		name := l.name + " at " + l.at.String()
		switch {
		case shares:
			c.Lines = append(c.Lines, chart.Line{Name: name, Y: 100 * l.at.Fraction})
		case l.at.Bytes > 0:
			c.Lines = append(c.Lines, chart.Line{Name: name, Y: float64(l.at.Bytes) / (1 << 30)})
		default: // a share of each memory is a line of its own
			for total := range totals {
				if len(totals) == 1 {
					c.Lines = append(c.Lines, chart.Line{Name: name, Y: float64(l.at.Of(total)) / (1 << 30)})
				}
			}
		}
	}
	return c
}

// watchedName is what a memory is called in charts: "nvidia:0 RTX 4090, 24.0 GiB".
func watchedName(r memory.Reading, w memory.Watched) string {
	name := w.Name
	for _, g := range r.GPUs {
		if g.ID() == w.Name {
			name = oneLine(g.Name, 30)
		}
	}
	if w.Total > 0 {
		name += ", " + memory.Size(w.Total)
	}
	return name
}
