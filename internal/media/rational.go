package media

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Rational is a fraction, such as a frame rate: 30000/1001. The zero value
// means "not known".
type Rational struct{ Num, Den int64 }

// ParseRational parses "30000/1001", "16:9" or "25". It returns the zero value for
// anything but a fraction of two positive numbers.
func ParseRational(s string) Rational {
	num, den, found := strings.Cut(s, "/")
	if !found {
		num, den, found = strings.Cut(s, ":")
	}
	if !found {
		den = "1"
	}
	n, err1 := strconv.ParseInt(num, 10, 64)
	d, err2 := strconv.ParseInt(den, 10, 64)
	if err1 != nil || err2 != nil || n <= 0 || d <= 0 {
		return Rational{}
	}
	return Rational{n, d}.reduced()
}

func (r Rational) reduced() Rational {
	a, b := r.Num, r.Den
	for b != 0 {
		a, b = b, a%b
	}
	if a <= 0 {
		return r
	}
	return Rational{r.Num / a, r.Den / a}
}

// Valid reports whether r is a positive fraction.
func (r Rational) Valid() bool { return r.Num > 0 && r.Den > 0 }

// Float returns the value, or 0 if r is not valid.
func (r Rational) Float() float64 {
	if !r.Valid() {
		return 0
	}
	return float64(r.Num) / float64(r.Den)
}

// String returns ffmpeg's notation, "30000/1001".
func (r Rational) String() string { return fmt.Sprintf("%d/%d", r.Num, r.Den) }

// Time returns when frame n of a stream of rate r is shown, to the nearest
// nanosecond.
func (r Rational) Time(n int64) time.Duration {
	if !r.Valid() || n <= 0 {
		return 0
	}
	return time.Duration(mulDiv(n, r.Den*int64(time.Second), r.Num))
}

// Frame returns the frame of a stream of rate r whose time is nearest to t. It is
// the inverse of Time.
func (r Rational) Frame(t time.Duration) int64 {
	if !r.Valid() || t <= 0 {
		return 0
	}
	return mulDiv(int64(t), r.Num, r.Den*int64(time.Second))
}

// mulDiv returns a·b/c, rounded to nearest. It computes in 128 bits, because
// nanoseconds times 30000 exceed 64 bits after a few days.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	lo, carry := bits.Add64(lo, uint64(c)/2, 0)
	hi += carry
	if hi >= uint64(c) {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(q, math.MaxInt64))
}

// wellKnown are common rates that containers store inexactly.
var wellKnown = []Rational{
	{24000, 1001}, {24, 1}, {25, 1}, {30000, 1001}, {30, 1}, {48000, 1001}, {48, 1}, {50, 1},
	{60000, 1001}, {60, 1}, {100, 1}, {120000, 1001}, {120, 1}, {240, 1}, {15, 1}, {12, 1}, {10, 1}, {20, 1},
	{15000, 1001}, {12000, 1001}, {5, 1}, {8, 1},
}

// snap returns the well-known rate nearest to r if it is within 0.1 %, else r.
// 24 and 24000/1001 are themselves 0.1 % apart, so the nearest one counts.
func snap(r Rational) Rational {
	best, bestErr := r, 1e-3
	for _, k := range wellKnown {
		if e := math.Abs(r.Float()/k.Float() - 1); e < bestErr {
			best, bestErr = k, e
		}
	}
	return best
}

// ParseRate parses a frame rate: a fraction as in ParseRational, or a decimal number.
// 29.97 means 30000/1001, as everywhere in video.
func ParseRate(s string) Rational {
	if r := ParseRational(s); r.Valid() {
		return r
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f < 1e6) {
		return Rational{}
	}
	return snap(Rational{int64(math.Round(f * 1000)), 1000}.reduced())
}
