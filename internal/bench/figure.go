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
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// The units of a Figure.
const (
	None         = ""       // a plain number
	Frames       = "frames" // of the video
	Percent      = "%"
	Decibel      = "dB"
	Rate         = "fps"    // frames per second
	Times        = "x"      // a multiple
	Seconds      = "s"      // of a clock or of CPU time
	Milliseconds = "ms"     // the same
	Bytes        = "bytes"  // printed in binary units
	Levels       = "levels" // of brightness, 0 to 255
	DeltaE       = "dE"     // difference of colours in CIELAB
)

// Figure is a measured value.
type Figure struct {
	Key   string  // stable name for programs
	Name  string  // title in tables
	Value float64 // NaN if it could not be measured
	Unit  string
	// Min and Max are the bounds of the goal, inclusive; nil means no bound.
	Min, Max *float64
	Note     string // how it was measured, or why it was not; may be empty
}

// Verdict returns "ok", "FAIL", or "" without a goal. A figure with a goal that could
// not be measured fails.
func (f Figure) Verdict() string {
	switch {
	case f.Min == nil && f.Max == nil:
		return ""
	case math.IsNaN(f.Value), f.Min != nil && f.Value < *f.Min, f.Max != nil && f.Value > *f.Max:
		return "FAIL"
	}
	return "ok"
}

// Goal returns the goal as text.
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

// Format formats a value with its unit, rounded to significant digits.
func Format(v float64, unit string) string {
	if math.IsNaN(v) {
		return "-"
	}
	switch unit {
	case None:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case Frames, Times, Levels:
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

// WriteRows writes rows of equal length in aligned columns.
func WriteRows(w io.Writer, rows [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	_ = t.Flush() // cannot fail: b is in memory
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
	// Missed returns an error that names the missed goals, or nil.
	Missed() error
}

// missed returns an error of this kind that names the missed goals, or nil if there are none.
func missed(kind fault.Kind, names []string) error {
	if len(names) > 0 {
		return kind.New("reach the goals", "missed: "+strings.Join(names, "; "))
	}
	return nil
}

// Results holds the figures of a report. Reports embed it.
type Results struct {
	Figures []Figure `json:"figures"`
}

// Missed implements Report. A missed goal is a defect of Lipstream.
func (r Results) Missed() error { return missed(fault.Internal, Missed(r.Figures)) }

// Output configures where a report goes. All measurements have it.
type Output struct {
	JSON   bool   `name:"json" help:"Print the report as JSON instead of a table."`
	Report string `placeholder:"FILE" help:"Write the report, with all measured values, to a JSON file."`
	Check  bool   `help:"Fail if a goal is missed."`
}

// Write writes the report to the file, if any, and to w.
func (o Output) Write(w io.Writer, r Report) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // paths and messages stay readable
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fault.Internal.Wrap("write the report", err)
	}
	if o.Report != "" {
		if err := disk.WriteFile(o.Report, b.Bytes(), 0o644); err != nil {
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
