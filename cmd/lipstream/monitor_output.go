package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// monitorOutput writes readings: on a terminal as a block that is redrawn, otherwise
// as lines of text or JSON; and to a CSV file.
type monitorOutput struct {
	out    io.Writer
	asJSON *json.Encoder // nil for text
	redraw bool
	rows   int // height of the block on the terminal
	path   string
	file   *os.File // nil without a CSV file
	csv    *csv.Writer
}

// csvHead holds the columns of the CSV file, which has a row for each memory and reading.
var csvHead = []string{
	"time", "source", "name", "used_bytes", "total_bytes", "level",
	"utilisation_percent", "temperature_celsius", "power_watts",
}

func (m *monitorCmd) open(c *console) (*monitorOutput, error) {
	o := &monitorOutput{out: c.Out, redraw: isTerminal(c.Out), path: m.CSV}
	if m.JSON {
		o.asJSON = newEncoder(c.Out)
	}
	if m.CSV == "" {
		return o, nil
	}
	var err error
	if o.file, err = os.Create(m.CSV); err != nil {
		return nil, fault.Output.Wrap("write CSV "+m.CSV, fault.WithoutPath(err), "check the folder")
	}
	o.csv = csv.NewWriter(o.file)
	return o, o.writeRows([][]string{csvHead})
}

func (o *monitorOutput) writeRows(rows [][]string) error {
	return fault.Output.Wrap("write CSV "+o.path, fault.WithoutPath(o.csv.WriteAll(rows)), "check the free disk space")
}

func (o *monitorOutput) close() error {
	if o.file == nil {
		return nil
	}
	return fault.Output.Wrap("write CSV "+o.path, fault.WithoutPath(o.file.Close()), "check the free disk space")
}

func (o *monitorOutput) show(r memory.Reading) error {
	lines := readingLines(r)
	var texts []string
	var rows [][]string
	for _, l := range lines {
		texts, rows = append(texts, l.text()), append(rows, l.csv())
	}
	if r.Err != nil {
		texts = append(texts, "error: "+oneLine(r.Err.Error(), maxErrorLine))
	}
	if o.csv != nil {
		if err := o.writeRows(rows); err != nil {
			return err
		}
	}
	var err error
	at := r.Time.Format(time.DateTime)
	switch {
	case o.asJSON != nil:
		err = o.asJSON.Encode(readingJSON(r, lines))
	case o.redraw:
		err = o.block(append([]string{at + "   press Ctrl-C to stop"}, texts...))
	default:
		_, err = fmt.Fprintln(o.out, strings.Join(append([]string{at}, texts...), "; "))
	}
	return fault.Output.Wrap("monitor memory", err)
}

// block redraws the block of lines. It writes once, which avoids flicker.
func (o *monitorOutput) block(texts []string) error {
	// Lines must not wrap: o.rows counts one row for each.
	width := terminalWidth(o.out) - 1
	var b strings.Builder
	if o.rows > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", o.rows)
	}
	for _, text := range texts {
		b.WriteString("\r" + fit(text, nil, width) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	o.rows = len(texts)
	_, err := io.WriteString(o.out, b.String())
	return err
}

// readingLine is one memory of a reading.
type readingLine struct {
	Time        time.Time `json:"-"`
	Source      string    `json:"source"`
	Name        string    `json:"name,omitempty"` // of a GPU
	Used        int64     `json:"used_bytes"`
	Total       int64     `json:"total_bytes,omitempty"` // absent if unknown
	Level       string    `json:"level,omitempty"`       // absent for a GPU without its own memory
	Utilisation *float64  `json:"utilisation,omitempty"` // 0 to 1: processors of the host, GPUs
	Temperature float64   `json:"temperature_celsius,omitempty"`
	Power       float64   `json:"power_watts,omitempty"`
	// Processes are those that compute on an NVIDIA GPU.
	Processes []readingProcess `json:"processes,omitempty"`
}

type readingProcess struct {
	PID  int    `json:"pid"`
	Name string `json:"name,omitempty"`
	Used int64  `json:"used_bytes"`
}

// maxProcesses is the most processes of a GPU that a line of text names.
const maxProcesses = 2

// readingLines returns all watched memories, then the GPUs that share the host's memory.
func readingLines(r memory.Reading) []readingLine {
	share := func(v float64) *float64 {
		if v < 0 {
			return nil
		}
		return &v
	}
	gpus := map[string]memory.GPU{}
	for _, g := range r.GPUs {
		gpus[g.ID()] = g
	}
	var lines []readingLine
	add := func(l readingLine) {
		if g, ok := gpus[l.Source]; ok {
			l.Name, l.Utilisation, l.Temperature, l.Power = oneLine(g.Name, maxErrorLine), share(g.Utilisation), g.Temperature, g.Power
			for _, p := range g.Processes {
				l.Processes = append(l.Processes, readingProcess{p.PID, oneLine(p.Name, 30), p.Used})
			}
			delete(gpus, l.Source)
		} else if l.Source == "host" {
			l.Utilisation = share(r.CPU)
		}
		l.Time = r.Time
		lines = append(lines, l)
	}
	for _, w := range r.Watched {
		add(readingLine{Source: w.Name, Used: w.Used, Total: w.Total, Level: w.Level.String()})
	}
	for _, g := range r.GPUs {
		if _, left := gpus[g.ID()]; left {
			add(readingLine{Source: g.ID(), Used: g.Used, Total: g.Total})
		}
	}
	return lines
}

// text returns the line as text: "host 4.0 GiB of 16.0 GiB (25%), 31% busy".
func (l readingLine) text() string {
	s := l.Source
	if l.Name != "" {
		s += " " + l.Name
	}
	switch {
	case l.Total > 0:
		s += fmt.Sprintf(" %s of %s (%.0f%%)", memory.Size(l.Used), memory.Size(l.Total), 100*float64(l.Used)/float64(l.Total))
	case l.Level != "":
		s += " " + memory.Size(l.Used)
	}
	if l.Utilisation != nil {
		s += fmt.Sprintf(", %.0f%% busy", 100**l.Utilisation)
	}
	if l.Temperature > 0 {
		s += fmt.Sprintf(", %.0f °C", l.Temperature)
	}
	if l.Power > 0 {
		s += fmt.Sprintf(", %.0f W", l.Power)
	}
	for i, p := range l.Processes {
		if i == maxProcesses {
			s += fmt.Sprintf(", %d more", len(l.Processes)-i)
			break
		}
		s += fmt.Sprintf(", %s %s", cmp.Or(p.Name, "process "+strconv.Itoa(p.PID)), memory.Size(p.Used))
	}
	if l.Level != "" && l.Level != memory.Normal.String() {
		s += ", " + strings.ToUpper(l.Level)
	}
	return s
}

// csv returns the columns of csvHead; unknown values are empty.
func (l readingLine) csv() []string {
	number := func(v float64, decimals int) string {
		if v <= 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'f', decimals, 64)
	}
	busy := ""
	if l.Utilisation != nil {
		busy = fmt.Sprintf("%.1f", 100**l.Utilisation)
	}
	return []string{
		l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), l.Source, l.Name, strconv.FormatInt(l.Used, 10), number(float64(l.Total), 0), l.Level,
		busy, number(l.Temperature, 1), number(l.Power, 1),
	}
}

// readingJSON returns the object that --json prints.
func readingJSON(r memory.Reading, lines []readingLine) any {
	v := struct {
		Time    time.Time     `json:"time"`
		Sources []readingLine `json:"sources"`
		Errors  []string      `json:"errors,omitempty"`
	}{Time: r.Time, Sources: lines}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](r.Err); ok {
		for _, err := range joined.Unwrap() {
			v.Errors = append(v.Errors, oneLine(err.Error(), maxErrorLine))
		}
	}
	return v
}
