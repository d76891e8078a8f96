// Package bench measures Lipstream: how well the mouth follows the voice, and
// how fast and with how much memory a job runs. It stands behind lipstream
// bench.
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

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

// Verdict is "ok", "FAIL", or "" without a goal. What has a goal and could not
// be measured has not reached it.
func (f Figure) Verdict() string {
	switch {
	case f.Min == nil && f.Max == nil:
		return ""
	case math.IsNaN(f.Value), f.Min != nil && f.Value < *f.Min, f.Max != nil && f.Value > *f.Max:
		return "FAIL"
	}
	return "ok"
}

// Goal writes the bounds.
func (f Figure) Goal() string {
	switch {
	case f.Min != nil && f.Max != nil:
		return format(*f.Min, f.Unit) + " to " + format(*f.Max, f.Unit)
	case f.Min != nil:
		return "at least " + format(*f.Min, f.Unit)
	case f.Max != nil:
		return "at most " + format(*f.Max, f.Unit)
	}
	return ""
}

// MarshalJSON gives the figure with its verdict; a value that is not there is
// null.
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

// Missed lists the names of the figures that did not reach their goals.
func Missed(figures []Figure) []string {
	var out []string
	for _, f := range figures {
		if f.Verdict() == "FAIL" {
			out = append(out, f.Name)
		}
	}
	return out
}

// format writes a value with as many digits as mean something.
func format(v float64, unit string) string {
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

// WriteTable prints figures, values, goals and verdicts in columns.
func WriteTable(w io.Writer, figures []Figure) error {
	rows := [][]string{{"figure", "value", "goal", "", ""}}
	for _, f := range figures {
		rows = append(rows, []string{f.Name, format(f.Value, f.Unit), f.Goal(), f.Verdict(), f.Note})
	}
	return writeRows(w, rows)
}

// writeRows aligns the cells of rows of equal length.
func writeRows(w io.Writer, rows [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		// A strings.Builder takes everything.
		_, _ = fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	_ = t.Flush()
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
