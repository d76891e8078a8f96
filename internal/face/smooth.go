package face

import (
	"math"
	"slices"
)

// Smoothing looks at up to reach frames to either side, never beyond the
// track. Every estimate is a least-squares polynomial evaluated at the frame
// itself: a line (with a full window the plain mean, strongest against noise)
// and a parabola (a Savitzky-Golay filter, which follows turns of the motion).
// Neither lags. Where the two differ by more than noise can explain, the
// parabola is used.
//
// The head's motion (shift, turn, scale) and the face's own motion are
// smoothed separately. The mouth, which the engines need exactly, is left alone as
// soon as it moves.

// Least noise of the mesh in units of the face's width: differences well above
// are motion, well below are jitter.
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

// isStable marks the points that do not move with speech. They show the motion of
// the head.
var isStable = func() (s []int) {
	for _, b := range poseBasis {
		if !isMouth[b.index] {
			s = append(s, b.index)
		}
	}
	return s
}()

// hat returns the weights w, so that sum w[i]·y[i] is the value at the frame at
// of the least-squares polynomial of the degree through samples 0..n-1.
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

// gain returns the share of a difference of length d to follow: 0 if noise explains
// it, 1 if it is motion.
func gain(d, noise float64) float64 { return d * d / (d*d + noise*noise) }

// motion is a similarity in the plane: scale·turn and shift, z -> (a+ib)z + c.
type motion struct{ a, b, cx, cy float64 }

// motionBetween returns the least-squares similarity from the stable points of p to
// those of q.
func motionBetween(p, q []Point) motion {
	var px, py, qx, qy float64
	n := float64(len(isStable))
	for _, i := range isStable {
		px, py = px+p[i].X/n, py+p[i].Y/n
		qx, qy = qx+q[i].X/n, qy+q[i].Y/n
	}
	var dot, cross, norm float64
	for _, i := range isStable {
		ux, uy, vx, vy := p[i].X-px, p[i].Y-py, q[i].X-qx, q[i].Y-qy
		dot += ux*vx + uy*vy
		cross += ux*vy - uy*vx
		norm += ux*ux + uy*uy
	}
	if norm == 0 {
		return motion{a: 1}
	}
	m := motion{a: dot / norm, b: cross / norm}
	m.cx = qx - (m.a*px - m.b*py)
	m.cy = qy - (m.b*px + m.a*py)
	return m
}

func (m motion) apply(p Point) Point {
	return Point{m.a*p.X - m.b*p.Y + m.cx, m.b*p.X + m.a*p.Y + m.cy, p.Z * math.Hypot(m.a, m.b)}
}

func (m motion) inverse() motion {
	d := m.a*m.a + m.b*m.b
	if d == 0 {
		return motion{a: 1}
	}
	v := motion{a: m.a / d, b: -m.b / d}
	v.cx = -(v.a*m.cx - v.b*m.cy)
	v.cy = -(v.b*m.cx + v.a*m.cy)
	return v
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

	// The head: how it got from here to each frame of the window, with the
	// shift taken at the face's centre, where it does not mix with turn.
	var cx, cy float64
	for _, i := range isStable {
		cx += now[i].X / float64(len(isStable))
		cy += now[i].Y / float64(len(isStable))
	}
	back := make([]motion, n)
	var l, q [4]float64
	for k, o := range window {
		m := motionBetween(now, o.points)
		back[k] = m.inverse()
		c := m.apply(Point{X: cx, Y: cy})
		for j, v := range [4]float64{m.a, m.b, c.X - cx, c.Y - cy} {
			l[j] += line[k] * v
			q[j] += parabola[k] * v
		}
	}
	d := math.Hypot(q[2]-l[2], q[3]-l[3]) + width/2*math.Hypot(q[0]-l[0], q[1]-l[1])
	g := gain(d, rigidNoise*width)
	for j := range l {
		l[j] += g * (q[j] - l[j])
	}
	// A step (a jump cut that no thumbnail shows) is not a parabola either: far
	// from the measurement, the measurement is used. It is the identity.
	d = math.Hypot(l[2], l[3]) + width/2*math.Hypot(l[0]-1, l[1])
	g = gain(d, rigidStep*width)
	for j, v := range [4]float64{1, 0, 0, 0} {
		l[j] += g * (v - l[j])
	}
	head := motion{a: l[0], b: l[1]}
	head.cx = cx + l[2] - (head.a*cx - head.b*cy)
	head.cy = cy + l[3] - (head.b*cx + head.a*cy)

	// The face: the motion of its points that remains when the head is held still.
	// What remains of the stable points is the noise of this picture.
	noise := noiseOf(window, back, line)
	// The mouth is smoothed less: a closed mouth taken for an open one looks worse
	// than one that trembles.
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
			lerp(&s, m, gain(dist(m, s), mouthNoise))
			lerp(&s, now[i], gain(dist(now[i], s), mouthNoise))
		} else {
			lerp(&s, p, gain(dist(p, s), shapeNoise))
		}
		out[i] = head.apply(s)
	}
	return out
}

// noiseOf is the root mean square, per point, of what the stable points do
// over the window when the head is held still.
func noiseOf(window []*observation, back []motion, line []float64) float64 {
	var sum float64
	for _, i := range isStable {
		var mean Point
		for k, o := range window {
			add(&mean, back[k].apply(o.points[i]), line[k])
		}
		for k, o := range window {
			d := dist(back[k].apply(o.points[i]), mean)
			sum += d * d
		}
	}
	return math.Sqrt(sum / float64(len(isStable)*len(window)))
}

func add(p *Point, v Point, w float64) {
	p.X += w * v.X
	p.Y += w * v.Y
	p.Z += w * v.Z
}

func lerp(p *Point, to Point, g float64) {
	p.X += g * (to.X - p.X)
	p.Y += g * (to.Y - p.Y)
	p.Z += g * (to.Z - p.Z)
}
