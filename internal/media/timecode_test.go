package media

import (
	"testing"
	"time"
)

func TestShiftTimecode(t *testing.T) {
	ntsc, pal, film := Rational{30000, 1001}, Rational{25, 1}, Rational{24000, 1001}
	for _, c := range []struct {
		code     string
		frames   int64
		from, to Rational
		want     string
	}{
		{"01:00:00:00", 0, pal, pal, "01:00:00:00"},
		{"01:00:00:00", 13, pal, pal, "01:00:00:13"},
		{"00:59:59:24", 1, pal, pal, "01:00:00:00"},
		{"23:59:59:24", 1, pal, pal, "00:00:00:00"},
		{"10:00:00:00", 24, film, film, "10:00:01:00"},
		// Drop frame: the numbers 0 and 1 do not exist in a minute, but do in every tenth.
		{"00:00:59;29", 1, ntsc, ntsc, "00:01:00;02"},
		{"00:09:59;29", 1, ntsc, ntsc, "00:10:00;00"},
		{"00:00:00;00", 17982, ntsc, ntsc, "00:10:00;00"},
		{"01:00:00;00", 107892, ntsc, ntsc, "02:00:00;00"},
		{"00:00:59;59", 1, Rational{60000, 1001}, Rational{60000, 1001}, "00:01:00;04"},
		{"00:00:59.29", 1, ntsc, ntsc, "00:01:00;02"}, // another way to write it
		{"00:00:59:29", 1, ntsc, ntsc, "00:01:00:00"}, // without drop frame
		// Another rate: the same time.
		{"01:00:00:12", 0, pal, Rational{50, 1}, "01:00:00:24"},
		{"01:00:00;15", 0, ntsc, pal, "01:00:00:12"},
		{"noon", 0, pal, pal, ""}, {"", 0, pal, pal, ""}, {"1:2:3", 0, pal, pal, ""}, {"01:00:00:00", 0, Rational{}, pal, ""},
	} {
		if got := ShiftTimecode(c.code, c.frames, c.from, c.to); got != c.want {
			t.Errorf("%s + %d at %v to %v: %q, want %q", c.code, c.frames, c.from, c.to, got, c.want)
		}
	}
}

// TestDropFrame checks that drop frame time code keeps up with the clock over a day, and
// that it never repeats or goes back.
func TestDropFrame(t *testing.T) {
	ntsc, last := Rational{30000, 1001}, ""
	for n := int64(0); n < 24*6*17982; n += 1009 {
		code := ShiftTimecode("00:00:00;00", n, ntsc, ntsc)
		if code <= last {
			t.Fatalf("frame %d: %s after %s", n, code, last)
		}
		last = code
		clock := parseClock(code[:8]) + time.Duration(float64(code[9]-'0')*10+float64(code[10]-'0'))*time.Second/30
		if d := (clock - ntsc.Time(n)).Abs(); d > 160*time.Millisecond { // two frames, and 86 ms after a day
			t.Fatalf("frame %d: %s is %v off the clock", n, code, d)
		}
	}
}
