package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// gpuReading returns a reading of a machine with two GPUs, one of which shares the main memory.
func gpuReading() memory.Reading {
	const gib = 1 << 30
	return memory.Reading{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), CPU: 0.5,
		GPUs: []memory.GPU{
			{Vendor: "nvidia", Name: "RTX\x1b[31m 4090", Total: 24 * gib, Used: 19 * gib, Utilisation: 0.83, Temperature: 71, Power: 412.5,
				Processes: []memory.GPUProcess{{PID: 1, Name: "python", Used: 12 * gib}, {PID: 2, Used: 6 * gib}, {PID: 3, Used: gib}}},
			{Vendor: "intel", Name: "Iris", Shared: true, Utilisation: -1},
		},
		Watched: []memory.Watched{
			{Name: "host", Used: 4 * gib, Total: 16 * gib},
			{Name: "nvidia:0", Used: 19 * gib, Total: 24 * gib, Level: memory.Critical},
			{Name: "pid:7", Used: gib},
		},
	}
}

func TestReadingLines(t *testing.T) {
	var texts, rows []string
	for _, l := range readingLines(gpuReading()) {
		texts = append(texts, l.text())
		rows = append(rows, strings.Join(l.csv(), ","))
	}
	wantTexts := []string{
		"host 4.0 GiB of 16.0 GiB (25%), 50% busy",
		"nvidia:0 RTX 4090 19.0 GiB of 24.0 GiB (79%), 83% busy, 71 °C, 412 W, python 12.0 GiB, process 2 6.0 GiB, 1 more, CRITICAL",
		"pid:7 1.0 GiB",
		"intel:0 Iris",
	}
	wantRows := []string{
		"2026-01-02T03:04:05.000Z,host,,4294967296,17179869184,normal,50.0,,",
		"2026-01-02T03:04:05.000Z,nvidia:0,RTX 4090,20401094656,25769803776,critical,83.0,71.0,412.5",
		"2026-01-02T03:04:05.000Z,pid:7,,1073741824,,normal,,,",
		"2026-01-02T03:04:05.000Z,intel:0,Iris,0,,,,,",
	}
	if !slices.Equal(texts, wantTexts) || !slices.Equal(rows, wantRows) {
		t.Errorf("%q\n%q", texts, rows)
	}
}

func TestMonitorBlockIsRedrawn(t *testing.T) {
	var out bytes.Buffer
	o := &monitorOutput{out: &out, redraw: true}
	for range 2 {
		if err := o.show(gpuReading()); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); strings.Count(got, "\n") != 10 || strings.Count(got, "\x1b[5A") != 1 {
		t.Errorf("%q", got)
	}
}

func TestMonitorChart(t *testing.T) {
	r := gpuReading()
	later := r
	later.Time = r.Time.Add(2 * time.Second)
	share := memory.MonitorOptions{Warning: memory.DefaultWarning, Critical: memory.DefaultCritical}
	c := monitorChart([]memory.Reading{r, later}, share)
	// The total of the process is unknown: all in GiB.
	if c.Y != "memory in use (GiB)" || len(c.Series) != 3 || c.Series[1].Name != "RTX 4090, 24.0 GiB" ||
		!slices.Equal(c.Series[1].X, []float64{0, 2}) || !slices.Equal(c.Series[1].Y, []float64{19, 19}) || len(c.Lines) != 0 {
		t.Errorf("%+v", c)
	}
	r.Watched, later.Watched = r.Watched[:2], later.Watched[:2]
	c = monitorChart([]memory.Reading{r, later}, share)
	if c.Y != "memory in use (%)" || c.Series[0].Y[0] != 25 || len(c.Lines) != 2 || c.Lines[1].Y != 75 {
		t.Errorf("%+v", c)
	}
}

// runMonitor runs the command until ctx ends and returns its standard output.
func runMonitor(ctx context.Context, m monitorCmd) (string, error) {
	var out, errs bytes.Buffer
	m.Warn, m.Alert = "62.5%", "18GB"
	if m.Interval == 0 {
		m.Interval = memory.MinInterval
	}
	err := m.Run(ctx, &console{Out: &out, Err: &errs})
	return out.String(), err
}

// untilCSVHas polls until a file contains a text often enough, or ctx ends.
func untilCSVHas(ctx context.Context, path, text string, count int) {
	for ctx.Err() == nil {
		if data, err := os.ReadFile(path); err == nil && strings.Count(string(data), text) >= count {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestMonitorInterrupted presses Ctrl-C, the normal end.
func TestMonitorInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := monitorCmd{CSV: filepath.Join(dir, "a.csv"), Plot: filepath.Join(dir, "a.png"), JSON: true}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // press Ctrl-C after the first readings
		defer cancel()
		untilCSVHas(ctx, m.CSV, "host", 2)
	}()
	out, err := runMonitor(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var v struct{ Sources []struct{ Source string } }
		if err := json.Unmarshal([]byte(line), &v); err != nil || len(v.Sources) == 0 {
			t.Errorf("%q: %v", line, err)
		}
	}
	data, err := os.ReadFile(m.CSV)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil || len(rows) < 3 || !slices.Equal(rows[0], csvHead) {
		t.Errorf("%v, %v", rows, err)
	}
	f, err := os.Open(m.Plot)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
}

func TestMonitorEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	cat, err := exec.LookPath("cat")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("needs cat and /proc")
	}
	cmd := exec.Command(cat)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readings := filepath.Join(t.TempDir(), "a.csv")
	go func() {
		untilCSVHas(t.Context(), readings, "pid:", 1)
		_ = in.Close()
		_ = cmd.Wait()
	}()
	out, err := runMonitor(t.Context(), monitorCmd{PID: cmd.Process.Pid, CSV: readings})
	if err != nil || !strings.Contains(out, "pid:") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestMonitorRefuses(t *testing.T) {
	for name, m := range map[string]monitorCmd{
		"interval": {Interval: time.Millisecond}, "negative": {For: -1}, "plot": {Plot: "a.gif"}, "pid": {PID: 1 << 30},
	} {
		if _, err := runMonitor(t.Context(), m); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := runMonitor(t.Context(), monitorCmd{CSV: "none/a.csv"}); fault.KindOf(err) != fault.Output {
		t.Error(err)
	}
}
