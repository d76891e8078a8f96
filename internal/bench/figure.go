// Package bench measures Lipstream: how well the mouth follows the voice, and
// how fast and with how much memory a job runs. lipstream bench prints its
// results; tools/bench builds further measurements on it.
package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// The units of a Figure.
const (
	None    = ""       // a plain number
	Frames  = "frames" // of the video
	Percent = "%"
	Decibel = "dB"
	Rate    = "fps"   // frames per second
	Times   = "x"     // a multiple
	Seconds = "s"     // of a clock or of CPU time
	Bytes   = "bytes" // printed in binary units
)

// Figure is one measured value.
type Figure struct {
	Key   string  // stable name for programs
	Name  string  // for people
	Value float64 // NaN when nothing could be measured
	Unit  string
	// Min and Max are the goal, both included; nil means no bound.
	Min, Max *float64
	Note     string // how it was measured, or why not; may be empty
}

// Verdict returns "ok", "FAIL", or "" without a goal. A figure that has a goal
// and could not be measured has failed.
func (f Figure) Verdict() string {
	switch {
	case f.Min == nil && f.Max == nil:
		return ""
	case math.IsNaN(f.Value), f.Min != nil && f.Value < *f.Min, f.Max != nil && f.Value > *f.Max:
		return "FAIL"
	}
	return "ok"
}

// Goal returns the bounds as text.
func (f Figure) Goal() string {
	switch {
	case f.Min != nil && f.Max != nil:
		return Format(*f.Min, f.Unit) + " to " + Format(*f.Max, f.Unit)
	case f.Min != nil:
		return "at least " + Format(*f.Min, f.Unit)
	case f.Max != nil:
		return "at most " + Format(*f.Max, f.Unit)
	}
	return ""
}

// MarshalJSON returns the figure with its verdict. A value that could not be
// measured is null.
func (f Figure) MarshalJSON() ([]byte, error) {
	var value *float64
	if !math.IsNaN(f.Value) && !math.IsInf(f.Value, 0) {
		value = &f.Value
	}
	return json.Marshal(struct {
		Key     string   `json:"key"`
		Name    string   `json:"name"`
		Value   *float64 `json:"value"`
		Unit    string   `json:"unit,omitempty"`
		Min     *float64 `json:"goal_min,omitempty"`
		Max     *float64 `json:"goal_max,omitempty"`
		Verdict string   `json:"verdict,omitempty"`
		Note    string   `json:"note,omitempty"`
	}{f.Key, f.Name, value, f.Unit, f.Min, f.Max, f.Verdict(), f.Note})
}

// Missed returns the names of the figures that did not reach their goals.
func Missed(figures []Figure) []string {
	var out []string
	for _, f := range figures {
		if f.Verdict() == "FAIL" {
			out = append(out, f.Name)
		}
	}
	return out
}

// Format returns a value with its unit and as many digits as mean something.
func Format(v float64, unit string) string {
	if math.IsNaN(v) {
		return "-"
	}
	switch unit {
	case None:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case Frames, Times:
		return strconv.FormatFloat(v, 'f', 2, 64) + " " + unit
	case Bytes:
		return memory.Size(int64(v))
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + unit
}

// WriteTable writes names, values, goals and verdicts in columns.
func WriteTable(w io.Writer, figures []Figure) error {
	rows := [][]string{{"figure", "value", "goal", "", ""}}
	for _, f := range figures {
		rows = append(rows, []string{f.Name, Format(f.Value, f.Unit), f.Goal(), f.Verdict(), f.Note})
	}
	return WriteRows(w, rows)
}

// WriteRows writes rows of equal length with their cells aligned.
func WriteRows(w io.Writer, rows [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// Report is the result of a measurement.
type Report interface {
	WriteTable(w io.Writer) error
	// Missed returns an error that names the goals that were missed, or nil.
	Missed() error
}

// missed returns an error of the kind that names the missed goals, or nil.
func missed(kind fault.Kind, figures []Figure) error {
	if names := Missed(figures); len(names) > 0 {
		return kind.New("reach the goals", "missed: "+strings.Join(names, "; "))
	}
	return nil
}

// Results are the figures of a report, to be embedded in it.
type Results struct {
	Figures []Figure `json:"figures"`
}

// Missed implements Report. A goal that is missed is a defect of Lipstream.
func (r Results) Missed() error { return missed(fault.Internal, r.Figures) }

// Output are the options that all measurements share: where the report goes.
type Output struct {
	JSON   bool   `name:"json" help:"Print the report as JSON instead of a table."`
	Report string `placeholder:"FILE" help:"Write the report, with all measured values, as JSON to a file."`
	Check  bool   `help:"Fail if a goal is missed."`
}

// Write writes the report to the file and to w.
func (o Output) Write(w io.Writer, r Report) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // paths and messages stay readable
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fault.Internal.Wrap("write the report", err)
	}
	if o.Report != "" {
		if err := os.WriteFile(o.Report, b.Bytes(), 0o644); err != nil {
			return fault.Output.Wrap("write the report "+o.Report, fault.WithoutPath(err))
		}
	}
	write := r.WriteTable
	if o.JSON {
		write = func(w io.Writer) error { _, err := b.WriteTo(w); return err }
	}
	if err := write(w); err != nil {
		return fault.Output.Wrap("print the report", err)
	}
	if o.Check {
		return r.Missed()
	}
	return nil
}
