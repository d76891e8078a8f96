package bench

import (
	"math"
	"slices"
)

// NaN in a series means "not measured here" (a frame without a face) and is
// left out. As a result it means that nothing could be measured.

// pearson returns the correlation of x and y over the places where both have a
// value. It is NaN with fewer than three places, and if x or y does not vary.
func pearson(x, y []float64) float64 {
	var xs, ys []float64
	for i := range min(len(x), len(y)) {
		if !math.IsNaN(x[i]) && !math.IsNaN(y[i]) {
			xs, ys = append(xs, x[i]), append(ys, y[i])
		}
	}
	if len(xs) < 3 {
		return math.NaN()
	}
	mx, my, n := mean(xs), mean(ys), float64(len(xs))
	var xx, yy, xy float64
	for i := range xs {
		dx, dy := xs[i]-mx, ys[i]-my
		xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
	}
	// A constant series varies by its rounding errors only.
	if xx <= 1e-18*n*(mx*mx+1) || yy <= 1e-18*n*(my*my+1) {
		return math.NaN()
	}
	return xy / math.Sqrt(xx*yy)
}

// mean returns the mean of v, which has no NaN.
func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// average returns the mean of the values that were measured; NaN without any.
func average(v []float64) float64 {
	v = measured(v)
	return sum(v) / float64(len(v))
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// lags is the correlation of the mouth with the sound at the lags -reach ..
// +reach, in frames. At a positive lag the mouth comes later than the sound.
type lags struct {
	reach int
	r     []float64 // r[lag+reach]
}

func correlate(mouth, sound []float64, reach int) lags {
	l := lags{reach: reach, r: make([]float64, 2*reach+1)}
	for lag := -reach; lag <= reach; lag++ {
		m, s := mouth, sound
		if lag >= 0 {
			m = m[min(lag, len(m)):]
		} else {
			s = s[min(-lag, len(s)):]
		}
		l.r[lag+reach] = pearson(m, s)
	}
	return l
}

// at returns the correlation at a lag.
func (l lags) at(lag int) float64 { return l.r[lag+l.reach] }

// best returns the lag of the highest correlation, refined below a frame by the
// parabola through it and its neighbours, and the correlation at the whole
// frame. Both are NaN if nothing could be correlated.
func (l lags) best() (lag, r float64) {
	lag, r = math.NaN(), math.NaN()
	at := -1
	for i, v := range l.r {
		if !math.IsNaN(v) && (at < 0 || v > r) {
			at, r = i, v
		}
	}
	if at < 0 {
		return lag, r
	}
	lag = float64(at - l.reach)
	if at == 0 || at == len(l.r)-1 {
		return lag, r // the top may lie outside
	}
	before, after := l.r[at-1], l.r[at+1]
	if bend := before - 2*r + after; bend < 0 { // false for NaN, too
		lag += 0.5 * (before - after) / bend
	}
	return lag, r
}

// measured returns v without its NaN.
func measured(v []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(v), math.IsNaN)
}

// percentile returns the value below which the part p (0..1) of v lies, linear
// between neighbours.
func percentile(v []float64, p float64) float64 {
	s := measured(v)
	if len(s) == 0 {
		return math.NaN()
	}
	slices.Sort(s)
	x := min(max(p, 0), 1) * float64(len(s)-1)
	i := int(x)
	if i == len(s)-1 {
		return s[i]
	}
	return s[i] + (x-float64(i))*(s[i+1]-s[i])
}

// Median returns the median of v, or NaN without any.
func Median(v []float64) float64 { return percentile(v, 0.5) }

// deviation returns the standard deviation of v.
func deviation(v []float64) float64 {
	s := measured(v)
	m, sum := mean(s), 0.0
	for _, x := range s {
		sum += (x - m) * (x - m)
	}
	return math.Sqrt(sum / float64(len(s))) // NaN without any
}

// pick returns the values of v where keep is true.
func pick(v []float64, keep []bool) []float64 {
	var out []float64
	for i, x := range v {
		if keep[i] {
			out = append(out, x)
		}
	}
	return out
}
