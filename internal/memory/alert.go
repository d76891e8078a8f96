package memory

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Level is how short a memory is.
type Level int

// The levels, from the best to the worst.
const (
	Normal Level = iota
	Warning
	Critical
)

// String gives "normal", "warning" or "critical".
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

// Threshold is where a level begins: a fraction of the memory, or an absolute
// number of bytes. Bytes count where both are set.
type Threshold struct {
	Fraction float64 // above 0, at most 1
	Bytes    int64
}

// The default thresholds: 15 and 18 GB of a card with 24 GB.
var (
	DefaultWarning  = Threshold{Fraction: 0.625}
	DefaultCritical = Threshold{Fraction: 0.75}
)

// ParseThreshold reads "75%" or a number with a unit: "18GB" (10^9),
// "18 GiB" (2^30). The error is a fault of kind Usage.
func ParseThreshold(s string) (Threshold, error) {
	text := strings.ToUpper(strings.TrimSpace(s))
	if number, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f > 0 && f <= 100) {
			return Threshold{}, badThreshold(s, "a share has to be above 0 and at most 100 %")
		}
		return Threshold{Fraction: f / 100}, nil
	}
	if strings.TrimRight(text, "0123456789.") == text { // it has a unit
		n, err := ParseSize(text)
		if err != nil || n < 1 {
			return Threshold{}, badThreshold(s, "it is no size that a memory can have")
		}
		return Threshold{Bytes: n}, nil
	}
	return Threshold{}, badThreshold(s, "it has no unit")
}

func badThreshold(s, why string) error {
	return fault.Usage.New("read threshold "+strconv.Quote(s), why, "give a share such as 75% or a size such as 18GB or 16.5GiB")
}

// String writes the threshold as ParseThreshold reads it.
func (t Threshold) String() string {
	if t.Bytes > 0 {
		return Size(t.Bytes)
	}
	return strconv.FormatFloat(t.Fraction*100, 'f', -1, 64) + "%"
}

// Of gives the threshold in bytes for a memory of total bytes. For a fraction
// of an unknown total (0) it is never reached.
func (t Threshold) Of(total int64) int64 {
	switch {
	case t.Bytes > 0:
		return t.Bytes
	case total <= 0:
		return math.MaxInt64
	}
	return int64(t.Fraction * float64(total))
}

// orElse gives t, or d for the zero value.
func (t Threshold) orElse(d Threshold) Threshold {
	if t == (Threshold{}) {
		return d
	}
	return t
}

// CheckThresholds says what is wrong with a pair of thresholds, as a fault of
// kind Usage. The zero value stands for the default.
func CheckThresholds(warning, critical Threshold) error {
	warning, critical = warning.orElse(DefaultWarning), critical.orElse(DefaultCritical)
	for _, t := range []Threshold{warning, critical} {
		if t.Bytes < 0 || t.Bytes == 0 && !(t.Fraction > 0 && t.Fraction <= 1) {
			return badThreshold(t.String(), "it has to be above 0 and at most all of the memory")
		}
	}
	// A share and a size cannot be compared without the memory.
	if warning.Bytes == 0 && critical.Bytes == 0 && warning.Fraction > critical.Fraction ||
		warning.Bytes > 0 && critical.Bytes > 0 && warning.Bytes > critical.Bytes {
		return fault.Usage.New("read thresholds", fmt.Sprintf("the warning at %s would come after the alert at %s", warning, critical),
			"give a lower threshold for the warning")
	}
	return nil
}

// hysteresis is the part of a memory by which its use has to fall below a
// threshold until the level is left, so that a use that sways about the
// threshold gives one alert, not many.
const hysteresis = 0.02

// nextLevel is the level of a memory that was at level was before.
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

// Alert is a change of level of one memory: it is raised when a level is
// entered and when it is left.
type Alert struct {
	Time        time.Time
	Source      string // a name as in Reading.Watched
	Was, Level  Level
	Used, Total int64 // bytes; Total is 0 where it is not known
	// Limit is the threshold that was crossed, in bytes: of Level when it got
	// worse, of Was when it got better.
	Limit int64
}

// Worse tells whether the memory got shorter.
func (a Alert) Worse() bool { return a.Level > a.Was }

// String is a line for people: "nvidia:0 memory is critical: 18.2 GiB of
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
