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
func (l Level) String() string {
	switch l {
	case Normal:
		return "normal"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return "level " + strconv.Itoa(int(l))
}

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

// ParseThreshold parses a percentage such as "75%", or a size with a unit as
// [ParseSize] takes it. Its errors are of kind Usage.
func ParseThreshold(s string) (Threshold, error) {
	text := strings.ToUpper(strings.TrimSpace(s))
	if number, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f > 0 && f <= 100) {
			return Threshold{}, badThreshold(s, "a share must be above 0 % and at most 100 %")
		}
		return Threshold{Fraction: f / 100}, nil
	}
	if strings.TrimRight(text, "0123456789.") == text { // ends in a unit
		n, err := ParseSize(text)
		if err != nil || n < 1 {
			return Threshold{}, badThreshold(s, "it is not a valid size")
		}
		return Threshold{Bytes: n}, nil
	}
	return Threshold{}, badThreshold(s, "it has no unit")
}

func badThreshold(s, why string) error {
	return fault.Usage.New("read threshold "+strconv.Quote(s), why, "give a share such as 75% or a size such as 18GB or 16.5GiB")
}

// String returns the threshold in the form that ParseThreshold takes.
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

// orElse returns t, or d for the zero value.
func (t Threshold) orElse(d Threshold) Threshold {
	if t == (Threshold{}) {
		return d
	}
	return t
}

// CheckThresholds returns an error of kind Usage if a pair of thresholds is
// invalid. The zero value stands for the default.
func CheckThresholds(warning, critical Threshold) error {
	warning, critical = warning.orElse(DefaultWarning), critical.orElse(DefaultCritical)
	for _, t := range []Threshold{warning, critical} {
		if t.Bytes < 0 || t.Bytes == 0 && !(t.Fraction > 0 && t.Fraction <= 1) {
			return badThreshold(t.String(), "it must be above 0 and at most the whole memory")
		}
	}
	// A share and a size cannot be compared without the memory.
	if warning.Bytes == 0 && critical.Bytes == 0 && warning.Fraction > critical.Fraction ||
		warning.Bytes > 0 && critical.Bytes > 0 && warning.Bytes > critical.Bytes {
		return fault.Usage.New("read thresholds", fmt.Sprintf("the warning at %s is above the alert at %s", warning, critical),
			"give a lower threshold for the warning")
	}
	return nil
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
