package memory

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Level says how short a memory is.
type Level int

// The levels, from the best to the worst.
const (
	Normal Level = iota
	Warning
	Critical
)

// String returns "normal", "warning" or "critical".
func (l Level) String() string { return [...]string{"normal", "warning", "critical"}[l] }

// Threshold is where a level begins: a fraction of the memory or a number of
// bytes. If both are set, Bytes counts.
type Threshold struct {
	Fraction float64 // above 0, at most 1
	Bytes    int64
}

// The default thresholds: 15 and 18 GB of a card with 24 GB.
var (
	DefaultWarning  = Threshold{Fraction: 0.625}
	DefaultCritical = Threshold{Fraction: 0.75}
)

// Setting is the text of a setting, with the name that errors give it.
type Setting struct{ Name, Text string }

// ParseThresholds parses the settings of the warning and the critical threshold: a
// percentage such as "75%", a size with a unit as [ParseSize] takes it, or "" for the
// default. Without a warning threshold, the warning is never above the critical one. Its
// errors are of kind Usage.
func ParseThresholds(warning, critical Setting) (w, c Threshold, err error) {
	if w, err = warning.threshold(DefaultWarning); err != nil {
		return w, c, err
	}
	if c, err = critical.threshold(DefaultCritical); err != nil {
		return w, c, err
	}
	// A share and a size cannot be compared without the memory.
	if (w.Bytes > 0) == (c.Bytes > 0) && (w.Bytes > c.Bytes || w.Fraction > c.Fraction) {
		if warning.Text == "" {
			return c, c, nil
		}
		return w, c, fault.Field(warning.Name, w.String(), "is above the alert at "+c.String(), "set it to less than `"+critical.Name+"`")
	}
	return w, c, nil
}

func (s Setting) threshold(otherwise Threshold) (Threshold, error) {
	text := strings.ToUpper(strings.TrimSpace(s.Text))
	bad := func(cause string) (Threshold, error) {
		return Threshold{}, fault.Field(s.Name, strconv.Quote(s.Text), cause, "write a share such as 75%, or a size such as 18GB or 16.5GiB")
	}
	if s.Text == "" {
		return otherwise, nil
	}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f > 0 && f <= 100) {
			return bad("is not above 0 % and at most 100 %")
		}
		return Threshold{Fraction: f / 100}, nil
	}
	n, err := ParseSize(text)
	if err != nil || n < 1 || strings.TrimRight(text, "0123456789.") != text {
		return bad("is not a share or a size with a unit")
	}
	return Threshold{Bytes: n}, nil
}

// String returns the threshold in the form that ParseThresholds takes.
func (t Threshold) String() string {
	if t.Bytes > 0 {
		return Size(t.Bytes)
	}
	return strconv.FormatFloat(t.Fraction*100, 'f', -1, 64) + "%"
}

// Of returns the threshold in bytes for a memory of total bytes. A fraction of an
// unknown total (0) is never reached.
func (t Threshold) Of(total int64) int64 {
	switch {
	case t.Bytes > 0:
		return t.Bytes
	case total <= 0:
		return math.MaxInt64
	}
	return int64(t.Fraction * float64(total))
}

// hysteresis is the fraction of a memory by which its use must fall below a
// threshold before the level is left, so that small variations do not raise one
// alert after the other.
const hysteresis = 0.02

// nextLevel returns the level of a memory whose level was was before.
func nextLevel(was Level, used, total int64, warning, critical Threshold) Level {
	at := func(l Level, t Threshold) bool {
		limit := t.Of(total)
		if was < l {
			return used >= limit
		}
		of := total
		if of <= 0 {
			of = limit
		}
		return used > limit-int64(hysteresis*float64(of))
	}
	switch {
	case at(Critical, critical):
		return Critical
	case at(Warning, warning):
		return Warning
	}
	return Normal
}

// Alert reports a change of the level of one memory, for the worse or the better.
type Alert struct {
	Time        time.Time
	Source      string // a name as in Reading.Watched
	Was, Level  Level
	Used, Total int64 // bytes; Total is 0 if unknown
	// Limit is the threshold that was crossed, in bytes: that of the worse of the
	// two levels.
	Limit int64
}

// Worse reports whether the level got worse.
func (a Alert) Worse() bool { return a.Level > a.Was }

// String returns a line such as "nvidia:0 memory is critical: 18.2 GiB of
// 24.0 GiB in use, threshold 18.0 GiB".
func (a Alert) String() string {
	used := Size(a.Used)
	if a.Total > 0 {
		used += " of " + Size(a.Total)
	}
	verb := "is"
	if !a.Worse() {
		verb = "is back to"
	}
	return fmt.Sprintf("%s memory %s %s: %s in use, threshold %s", a.Source, verb, a.Level, used, Size(a.Limit))
}
