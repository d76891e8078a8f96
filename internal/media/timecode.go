package media

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ShiftTimecode returns the time code of a frame that comes some frames after the one
// with the time code code, in a video of rate from, as a time code of a video of rate
// to; "" if code is not one. A ";" before the frames means drop frame (SMPTE 12M): the
// numbers 0 and 1, or 0 to 3 at 60 frames a second, are left out in each minute but
// every tenth, so that time code keeps up with the clock.
func ShiftTimecode(code string, frames int64, from, to Rational) string {
	parts := strings.FieldsFunc(code, func(r rune) bool { return strings.ContainsRune(":;.", r) })
	if len(parts) != 4 || !from.Valid() || !to.Valid() {
		return ""
	}
	var n [4]int64
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return ""
		}
		n[i] = int64(v)
	}
	base := timecodeBase(from)
	drop := int64(0)
	if strings.ContainsAny(code, ";.") && base%30 == 0 {
		drop = base / 15
	}
	const minute = 60
	minutes := n[0]*60 + n[1]
	count := (minutes*minute+n[2])*base + n[3] - drop*(minutes-minutes/10) + frames
	perMinute := minute*base - drop
	perTen := 10*perMinute + drop
	day := 24 * 6 * perTen
	count = (count%day + day) % day
	if drop > 0 {
		tens, rest := count/perTen, count%perTen
		count += 9 * drop * tens
		if rest >= drop {
			count += drop * ((rest - drop) / perMinute)
		}
	}
	frame, seconds := count%base, count/base
	newBase := timecodeBase(to)
	if newBase != base {
		frame = frame * newBase / base
	}
	mark := ":"
	if drop > 0 && newBase%30 == 0 && to.Den == 1001 {
		mark = ";"
	}
	return fmt.Sprintf("%02d:%02d:%02d%s%02d", seconds/3600, seconds/60%60, seconds%60, mark, frame)
}

// timecodeBase returns how many frames a second of time code has.
func timecodeBase(r Rational) int64 { return max(1, int64(math.Round(r.Float()))) }
