package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/chart"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// reportFlags are the flags for the report of a job.
type reportFlags struct {
	Report     string `placeholder:"FILE.json" help:"Write a JSON report of the time and memory that the job used, even if it fails; replaces FILE."`
	ReportPlot string `placeholder:"FILE" help:"Draw the memory over time as .png or .svg; replaces FILE."`
}

const writeReportOp = "write the report"

// check reports before the job starts whether the reports can be written. They
// must not replace an input, which can be a PNG as well.
func (r *reportFlags) check(dryRun bool, inputs ...string) error {
	if dryRun && (r.Report != "" || r.ReportPlot != "") {
		return fault.Field("dry_run", "", "writes no report", "leave out `report` and `report_plot`")
	}
	if r.Report != "" && !strings.EqualFold(filepath.Ext(r.Report), ".json") {
		return fault.Field("report", r.Report, "is not the name of a JSON file", "choose a name that ends in .json")
	}
	if r.ReportPlot != "" {
		if err := chart.CheckPath("report_plot", r.ReportPlot); err != nil {
			return err
		}
	}
	for _, path := range []string{r.Report, r.ReportPlot} {
		if path == "" {
			continue
		}
		if err := checkWritable(path, inputs); err != nil {
			return err
		}
	}
	return nil
}

// checkWritable reports whether a new file can replace path. It creates one,
// because that is the only sure way to find out about permissions.
func checkWritable(path string, inputs []string) error {
	if st, err := os.Stat(path); err == nil {
		if !st.Mode().IsRegular() {
			return fault.Output.New(writeReportOp+" "+path, "it is not a regular file", "choose the name of a file")
		}
		for _, in := range inputs {
			if ist, err := os.Stat(in); err == nil && os.SameFile(st, ist) {
				return fault.Output.New(writeReportOp+" "+path, "it is the same file as the input "+in, "choose another name for the report")
			}
		}
	}
	f, err := disk.Create(path)
	if err != nil {
		return fault.Output.Wrap(writeReportOp+" "+path, fmt.Errorf("its folder cannot be written: %w", fault.WithoutPath(err)), "choose a folder that exists and that you may write to")
	}
	return f.Close()
}

// write writes the files that were requested.
func (r *reportFlags) write(report *lipstream.Report) error {
	if r.Report != "" {
		err := disk.Write(r.Report, 0o644, func(w io.Writer) error { return writeJSON(w, report) })
		if err != nil {
			return fault.Output.Wrap(writeReportOp+" "+r.Report, fault.WithoutPath(err), "check the folder and the free disk space")
		}
	}
	if r.ReportPlot != "" {
		return memoryChart(report).Save(r.ReportPlot)
	}
	return nil
}

// memoryChart draws the memory of a job over time, with a vertical line at the
// start of each phase.
func memoryChart(r *lipstream.Report) chart.Chart {
	const bytesPerUnit = 1 << 20
	title := "Memory of a job"
	if r.Engine != "" {
		title += ", engine " + oneLine(r.Engine, 60)
	}
	c := chart.Chart{Title: title, X: "time (s)", Y: "memory (MiB)"}
	curves := []struct {
		name  string
		value func(lipstream.MemorySample) int64
	}{
		{"total", func(s lipstream.MemorySample) int64 { return s.Total }},
		{"this process", func(s lipstream.MemorySample) int64 { return s.Self }},
		{"children", func(s lipstream.MemorySample) int64 { return s.Children }},
		{"anonymous", func(s lipstream.MemorySample) int64 { return s.Anonymous }},
	}
	top := float64(r.Memory.Peak) / bytesPerUnit
	for _, curve := range curves {
		s := chart.Series{Name: curve.name}
		for _, sample := range r.Memory.History {
			s.X = append(s.X, sample.At)
			s.Y = append(s.Y, float64(curve.value(sample))/bytesPerUnit)
		}
		c.Series = append(c.Series, s)
	}
	for _, p := range r.Phases {
		c.Series = append(c.Series, chart.Series{Name: "start of " + p.Name, X: []float64{p.At, p.At}, Y: []float64{0, top}})
	}
	c.Lines = []chart.Line{{Name: "peak", Y: top}}
	if r.Memory.Budget > 0 {
		c.Lines = append(c.Lines, chart.Line{Name: "budget", Y: float64(r.Memory.Budget) / bytesPerUnit})
	}
	return c
}

// printReport prints a summary of the report: a line for each stage, a line about memory and a line about windows.
func printReport(w io.Writer, r *lipstream.Report) {
	t := newTable(&console{Out: w}, "STAGE", "CALLS", "BUSY", "SHARE", "MEMORY")
	for _, s := range r.Stages {
		name, share, held := s.Name, "-", "-"
		if s.Part == lipstream.PartEngine {
			name = "  " + name
		}
		if r.Elapsed > 0 {
			share = fmt.Sprintf("%.0f%%", 100*s.Busy/r.Elapsed)
		}
		if s.Memory > 0 {
			held = memory.Size(s.Memory)
		}
		t.line(name, fmt.Sprint(s.Calls), shortSeconds(s.Busy), share, held)
	}
	_ = t.close("") // informational, so a failure does not matter
	line := fmt.Sprintf("memory: %s before the frames, peak %s", memory.Size(r.Memory.Before), memory.Size(r.Memory.Peak))
	if r.Memory.PeakAnonymous > 0 {
		line += fmt.Sprintf(" (anonymous %s)", memory.Size(r.Memory.PeakAnonymous))
	}
	line += ", after " + memory.Size(r.Memory.After)
	if r.Memory.Budget > 0 {
		line += ", budget " + memory.Size(r.Memory.Budget)
	}
	_, _ = fmt.Fprintln(w, line)
	if r.Windows > 0 {
		line = fmt.Sprintf("windows: %d, %s each", r.Windows, shortSeconds(r.SecondsPerWindow))
		if r.DeviceBusy > 0 {
			line += fmt.Sprintf(", device busy %.1f%%", 100*r.DeviceBusy)
		}
		_, _ = fmt.Fprintln(w, line)
	}
}

// shortSeconds formats seconds as 0.42 s or 12.3 s, and ten minutes or more as
// 10:00.
func shortSeconds(s float64) string {
	switch {
	case s >= 600:
		return clock(time.Duration(s * float64(time.Second)))
	case s >= 9.995:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.2f s", s)
}
