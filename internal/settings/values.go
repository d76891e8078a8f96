package settings

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/memory"
)

// Time is a position in a video. In JSON it is a number of seconds; as text,
// and in JSON strings, "90", "1:30", "0:01:30.5" or "1m30s".
type Time time.Duration

// Duration returns t as a time.Duration.
func (t Time) Duration() time.Duration { return time.Duration(t) }

// String returns t as Go writes durations: "1m30s".
func (t Time) String() string { return time.Duration(t).String() }

// maxSeconds bounds times, so that they fit a time.Duration.
const maxSeconds = 1e8

// UnmarshalText parses the text forms.
func (t *Time) UnmarshalText(text []byte) error {
	s := string(text)
	if d, err := time.ParseDuration(s); err == nil {
		*t = Time(d)
		return nil
	}
	parts := strings.Split(s, ":")
	var total float64
	for i, p := range parts {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || len(parts) > 3 || v != v || math.Abs(v) > maxSeconds || len(parts) > 1 && (v < 0 || i > 0 && v >= 60) {
			return fmt.Errorf("%q is not a time: write seconds (90.5), minutes and seconds (1:30.5) or 1m30s", s)
		}
		total = total*60 + v
	}
	return t.set(total)
}

func (t *Time) set(seconds float64) error {
	if seconds != seconds || math.Abs(seconds) > maxSeconds {
		return fmt.Errorf("%g seconds is too long", seconds)
	}
	*t = Time(math.Round(seconds * float64(time.Second)))
	return nil
}

// MarshalJSON writes seconds.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.Duration().Seconds()) }

// UnmarshalJSON reads seconds, or a string in a text form.
func (t *Time) UnmarshalJSON(data []byte) error {
	return unmarshal(data, t.UnmarshalText, t.set)
}

// Size is an amount of memory in bytes. In JSON it is a number; as text, and in
// JSON strings, "3GB", "3GiB" or "512M".
type Size int64

// String returns the size with a unit: "2.8 GiB".
func (s Size) String() string { return memory.Size(int64(s)) }

// UnmarshalText parses the text form.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := memory.ParseSize(string(text))
	*s = Size(n)
	return err
}

// MarshalJSON writes the number of bytes.
func (s Size) MarshalJSON() ([]byte, error) { return json.Marshal(int64(s)) }

// UnmarshalJSON reads a number of bytes, or a string in the text form.
func (s *Size) UnmarshalJSON(data []byte) error {
	return unmarshal(data, s.UnmarshalText, func(v float64) error {
		if v != math.Trunc(v) || math.Abs(v) > 1<<62 {
			return fmt.Errorf("%g is not a number of bytes", v)
		}
		*s = Size(v)
		return nil
	})
}

// unmarshal reads a JSON string with text and a JSON number with number.
func unmarshal(data []byte, text func([]byte) error, number func(float64) error) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return text([]byte(v))
	case float64:
		return number(v)
	}
	return fmt.Errorf("%s is neither a number nor a string", data)
}
