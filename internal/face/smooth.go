package face

import (
	"math"
	"math/cmplx"
	"slices"
)

// Smoothing uses up to reach frames on either side, within the track. Each estimate is the
// value of a least-squares polynomial at the frame itself: a line, which with a full window
// is the mean and suppresses noise most, and a parabola, a Savitzky-Golay filter, which
// follows changes of the motion. Neither lags. Where they differ by more than noise can
// explain, the parabola is used.
//
// The motion of the head (shift, turn, scale) and that of the face are smoothed
// separately. A moving mouth is not smoothed, because the engines need it exactly.

// The least noise of the mesh in units of the face's width. Much larger differences are
// motion, much smaller ones are jitter.
const (
	rigidNoise = 0.002
	rigidStep  = 0.02
	shapeNoise = 0.003
	mouthNoise = 0.002
)

// isMouth marks lips, chin and lower cheeks.
var isMouth = func() (m [Points]bool) {
	corner := Canonical[61].Y
	for i, p := range Canonical {
		m[i] = p.Y < corner || slices.Contains(attentionLips, i)
	}
	return m
}()

// stablePoints lists the points that do not move with speech and so show the motion of
// the head.
var stablePoints = func() (s []int) {
	for _, b := range poseBasis {
		if !isMouth[b.index] {
			s = append(s, b.index)
		}
	}
	return s
}()

// hat returns weights w such that the sum of w[i]·y[i] is the value at sample at of the
// least-squares polynomial through the samples y[0..n-1].
func hat(n, at, degree int) []float64 {
	degree = min(degree, n-1)
	m := degree + 1
	// Normal equations in x = i - at; the value at x = 0 is the first
	// coefficient, so one row of the inverse is enough: solve A·c = e0.
	a := make([][]float64, m)
	for r := range a {
		a[r] = make([]float64, m+1)
		for c := range m {
			for i := range n {
				a[r][c] += math.Pow(float64(i-at), float64(r+c))
			}
		}
	}
	a[0][m] = 1
	for p := range m {
		for r := range m {
			if r == p {
				continue
			}
			f := a[r][p] / a[p][p]
			for c := p; c <= m; c++ {
				a[r][c] -= f * a[p][c]
			}
		}
	}
	w := make([]float64, n)
	for i := range w {
		for r := range m {
			w[i] += a[r][m] / a[r][r] * math.Pow(float64(i-at), float64(r))
		}
	}
	return w
}

// Gain returns the share of a difference d that is motion: near 0 if noise explains it,
// near 1 if it is much larger.
func Gain(d, noise float64) float64 { return d * d / (d*d + noise*noise) }

// motion is a similarity in the plane of complex numbers: z -> turn·z + shift.
type motion struct{ turn, shift complex128 }

// motionBetween returns the least-squares similarity from the stable points of p to
// those of q.
func motionBetween(p, q []Point) motion {
	from, to := stableCentre(p), stableCentre(q)
	var dot complex128
	var norm float64
	for _, i := range stablePoints {
		u, v := p[i].complex()-from, q[i].complex()-to
		dot += cmplx.Conj(u) * v
		norm += real(u)*real(u) + imag(u)*imag(u)
	}
	if norm == 0 {
		return motion{turn: 1}
	}
	turn := complex(real(dot)/norm, imag(dot)/norm)
	return motion{turn, to - turn*from}
}

// stableCentre returns the centre of the stable points.
func stableCentre(p []Point) (c complex128) {
	n := float64(len(stablePoints))
	for _, i := range stablePoints {
		c += complex(p[i].X/n, p[i].Y/n)
	}
	return c
}

func (p Point) complex() complex128 { return complex(p.X, p.Y) }

func (m motion) apply(p Point) Point {
	z := m.turn*p.complex() + m.shift
	return Point{real(z), imag(z), p.Z * cmplx.Abs(m.turn)}
}

func (m motion) inverse() motion {
	d := real(m.turn)*real(m.turn) + imag(m.turn)*imag(m.turn)
	if d == 0 {
		return motion{turn: 1}
	}
	turn := complex(real(m.turn)/d, -imag(m.turn)/d)
	return motion{turn, -(turn * m.shift)}
}

// smooth returns the smoothed points of window[at].
func smooth(window []*observation, at int) []Point {
	now := window[at].points
	n := len(window)
	if n == 1 {
		return slices.Clone(now)
	}
	width := math.Max(dist(now[234], now[454]), 0.75*dist(now[10], now[152]))
	line, parabola := hat(n, at, 1), hat(n, at, 2)
	lo, hi := max(at-2, 0), min(at+2, n-1)
	short := make([]float64, n) // the mouth's: a parabola over two frames to either side
	copy(short[lo:], hat(hi-lo+1, at-lo, 2))

	// The head: its motion from this frame to each frame of the window. The shift is
	// that of the face's centre, where it is independent of the turn.
	centre := stableCentre(now)
	back := make([]motion, n)
	var l, q motion
	for k, o := range window {
		m := motionBetween(now, o.points)
		back[k] = m.inverse()
		m.shift = m.turn*centre + m.shift - centre
		l.add(m, line[k])
		q.add(m, parabola[k])
	}
	differ := func(a, b motion) float64 {
		return cmplx.Abs(a.shift-b.shift) + width/2*cmplx.Abs(a.turn-b.turn)
	}
	l.approach(q, Gain(differ(q, l), rigidNoise*width))
	// A step (a jump cut that is not visible in thumbnails) is no parabola either. If
	// the estimate is far from the measurement, which is the identity, the measurement
	// is used.
	identity := motion{turn: 1}
	l.approach(identity, Gain(differ(l, identity), rigidStep*width))
	head := motion{l.turn, l.shift + centre - l.turn*centre}

	// The face: the motion of its points that remains without that of the head.
	// The motion that remains of the stable points is noise.
	noise := noiseOf(window, back, line)
	// The mouth is smoothed less, because a closed mouth that looks open is worse than a
	// trembling one.
	mouthNoise, shapeNoise := math.Max(mouthNoise*width, 1.2*noise), math.Max(shapeNoise*width, 3*noise)
	out := make([]Point, len(now))
	for i := range out {
		var s, p, m Point
		for k, o := range window {
			v := back[k].apply(o.points[i])
			add(&s, v, line[k])
			add(&p, v, parabola[k])
			add(&m, v, short[k])
		}
		if isMouth[i] {
			lerp(&s, m, Gain(dist(m, s), mouthNoise))
			lerp(&s, now[i], Gain(dist(now[i], s), mouthNoise))
		} else {
			lerp(&s, p, Gain(dist(p, s), shapeNoise))
		}
		out[i] = head.apply(s)
	}
	return out
}

// add adds w·o to m.
func (m *motion) add(o motion, w float64) {
	m.turn += complex(w*real(o.turn), w*imag(o.turn))
	m.shift += complex(w*real(o.shift), w*imag(o.shift))
}

// approach moves m the share g of the way to o.
func (m *motion) approach(o motion, g float64) {
	m.add(motion{o.turn - m.turn, o.shift - m.shift}, g)
}

// noiseOf returns the root mean square movement of the stable points over the window
// that remains without the motion of the head.
func noiseOf(window []*observation, back []motion, line []float64) float64 {
	var sum float64
	for _, i := range stablePoints {
		var mean Point
		for k, o := range window {
			add(&mean, back[k].apply(o.points[i]), line[k])
		}
		for k, o := range window {
			d := dist(back[k].apply(o.points[i]), mean)
			sum += d * d
		}
	}
	return math.Sqrt(sum / float64(len(stablePoints)*len(window)))
}

func add(p *Point, v Point, w float64) {
	*p = Point{p.X + w*v.X, p.Y + w*v.Y, p.Z + w*v.Z}
}

func lerp(p *Point, to Point, g float64) {
	add(p, Point{to.X - p.X, to.Y - p.Y, to.Z - p.Z}, g)
}
