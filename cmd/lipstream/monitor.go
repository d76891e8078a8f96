package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lipstream/lipstream/internal/chart"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

type monitorCmd struct {
	Interval time.Duration `default:"2s" placeholder:"TIME" help:"Time between readings, at least 100ms."`
	For      time.Duration `placeholder:"TIME" help:"Stop after this time. Default: run until Ctrl-C."`
	PID      int           `name:"pid" placeholder:"N" help:"Also watch this process, its children and its control group; stop when it ends."`
	Warn     string        `placeholder:"SHARE|SIZE" help:"Warn when this much of a memory is in use, such as 60% or 15GB. Default: 62.5%, or the alert if that is less."`
	Alert    string        `placeholder:"SHARE|SIZE" help:"Alert when this much is in use. Default: 75%."`
	CSV      string        `name:"csv" placeholder:"FILE" help:"Write every reading to a CSV file."`
	Plot     string        `placeholder:"FILE" help:"Draw the memory over time as .png or .svg when the monitor stops."`
	JSON     bool          `name:"json" help:"Print every reading as a line of JSON."`
}

// Run implements lipstream monitor. It usually runs until Ctrl-C.
func (m *monitorCmd) Run(ctx context.Context, c *console) error {
	options, err := m.options()
	if err != nil {
		return err
	}
	probe := memory.Probe{PID: m.PID}
	if m.PID != 0 {
		if _, err := probe.Usage(); err != nil {
			return fault.Usage.Wrap("watch process "+fmt.Sprint(m.PID), err, "set `pid` to a running process that you have access to")
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if m.PID != 0 {
		options.Sources = []memory.Source{{Name: fmt.Sprintf("pid:%d", m.PID), Read: func() (int64, int64, error) {
			u, err := probe.Usage()
			if errors.Is(err, os.ErrNotExist) {
				stop() // the process has ended
			}
			return u.Total(), 0, err
		}}}
	}
	out, err := m.open(c)
	if err != nil {
		return err
	}
	var failed error
	options.OnReading = func(r memory.Reading) {
		if failed = out.show(r); failed != nil {
			stop()
		}
	}
	if m.For > 0 {
		defer time.AfterFunc(m.For, stop).Stop()
	}
	monitor := memory.NewMonitor(probe, options)
	monitor.Start(ctx)
	<-ctx.Done()
	monitor.Stop()
	return errors.Join(failed, out.close(), m.plot(monitor.History(), options))
}

// options checks the flags and returns the options of the monitor.
func (m *monitorCmd) options() (o memory.MonitorOptions, err error) {
	o.Interval = m.Interval
	if o.Warning, o.Critical, err = memory.ParseThresholds(memory.Setting{Name: "warn", Text: m.Warn}, memory.Setting{Name: "alert", Text: m.Alert}); err != nil {
		return o, err
	}
	if m.Interval < memory.MinInterval {
		return o, fault.Field("interval", m.Interval.String(), "is too short", fmt.Sprintf("set it to at least %v", memory.MinInterval))
	}
	if m.For < 0 {
		return o, fault.Field("for", m.For.String(), "is negative", "set it to a positive time, or leave it out")
	}
	if m.PID < 0 {
		return o, fault.Field("pid", fmt.Sprint(m.PID), "is negative", "set it to the ID of a process")
	}
	if m.Plot != "" {
		return o, chart.CheckPath("plot", m.Plot)
	}
	return o, nil
}

// plot draws the used share of each memory, so that memories of different sizes and
// their thresholds fit into one chart. If a threshold is a size, or a total is
// unknown, it draws GiB.
func (m *monitorCmd) plot(history []memory.Reading, o memory.MonitorOptions) error {
	if m.Plot == "" {
		return nil
	}
	if len(history) == 0 {
		return fault.Output.New("write chart "+m.Plot, "there are no readings yet", "let the monitor run longer")
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
	value := func(bytes, _ int64) float64 { return float64(bytes) / (1 << 30) }
	if shares {
		c.Y = "memory in use (%)"
		value = func(bytes, total int64) float64 { return 100 * float64(bytes) / float64(total) }
	}
	var totals []int64 // that are known
	index := map[string]int{}
	for _, r := range history {
		for _, w := range r.Watched {
			i, ok := index[w.Name]
			if !ok {
				i = len(c.Series)
				index[w.Name] = i
				c.Series = append(c.Series, chart.Series{Name: watchedName(r, w)})
				if w.Total > 0 && !slices.Contains(totals, w.Total) {
					totals = append(totals, w.Total)
				}
			}
			s := &c.Series[i]
			s.X = append(s.X, r.Time.Sub(history[0].Time).Seconds())
			s.Y = append(s.Y, value(w.Used, w.Total))
		}
	}
	for _, l := range []struct {
		name string
		at   memory.Threshold
	}{{"warning", o.Warning}, {"alert", o.Critical}} {
		line := chart.Line{Name: l.name + " at " + l.at.String()}
		switch {
		case shares:
			line.Y = 100 * l.at.Fraction
		case l.at.Bytes > 0:
			line.Y = value(l.at.Bytes, 0)
		case len(totals) == 1:
			line.Y = value(l.at.Of(totals[0]), 0)
		default: // one line for all is only right if the totals are equal
			continue
		}
		c.Lines = append(c.Lines, line)
	}
	return c
}

// watchedName returns the name of a memory in charts: "RTX 4090, 24.0 GiB".
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
