package preview

import "math"

// interior paints the inside of the mouth. Everything is placed in face
// coordinates: upper teeth stay with the skull, the tongue and the lower teeth go
// with the lower lip.
type interior struct {
	upper, lower  [columns]vec // inner lips, corner to corner
	behind        vec          // where the teeth seem to be, because they are deeper than the lips
	middle        float64      // u between the front teeth
	teethEdge     float64      // v of the front teeth's lower edge
	tongue        float64      // 0..1: how far the tongue's tip is raised
	pixel         float64      // size of a pixel in face units
	skin, lip     colour       // of the speaker, so that teeth share the scene's light and white balance
	black         float32      // code value of black
	halfWidth, cu float64
}

// teethDepth is how far the teeth lie behind the base of the nose, in face units.
const teethDepth = 0.12

// behind returns where the teeth seem to be, in pixels.
func (ps *pose) behind() vec { return ps.origin.add(ps.away.mul(teethDepth)) }

// newInterior returns the inside of a mouth whose mesh is displaced to the pixels
// of to.
func newInterior(to []vec, ps *pose, neutral *lips, tongue float64) interior {
	const in = rings - 1
	a := interior{tongue: tongue, pixel: 1 / ps.unit}
	for k := range columns {
		a.upper[k], a.lower[k] = ps.toFace(to[upperLip[in][k]]), ps.toFace(to[lowerLip[in][k]])
	}
	a.behind = ps.toFace(ps.behind())
	a.cu = (a.lower[0].x + a.lower[columns-1].x) / 2
	a.halfWidth = max(1e-3, (a.lower[columns-1].x-a.lower[0].x)/2)
	a.middle = (neutral.lower[in][0].x + neutral.lower[in][columns-1].x) / 2
	// At rest the front teeth end about a millimetre below the parting of the
	// lips.
	a.teethEdge = neutral.lower[in][columns/2].y + 0.014
	return a
}

// The points of the mesh whose colours are those of the speaker's skin and lips.
var (
	skinPoints = []uint16{205, 425, 206, 426, 207, 427}
	lipPoints  = []uint16{85, 16, 315, 84, 314, 17}
)

// meanColour returns the mean of the colours at points of a mesh.
func meanColour(from []vec, read func(vec) colour, points []uint16) (c colour) {
	for _, i := range points {
		for n, v := range read(from[i]) {
			c[n] += v / float32(len(points))
		}
	}
	return c
}

// curve evaluates a lip's edge at u by a Catmull-Rom spline through its points.
func curve(p *[columns]vec, u float64) float64 {
	k := 0
	for k < columns-2 && u > p[k+1].x {
		k++
	}
	a, b := p[k], p[k+1]
	if b.x-a.x < 1e-9 {
		return a.y
	}
	t := float32(clamp((u-a.x)/(b.x-a.x), 0, 1))
	w0, w1, w2, w3 := catmullRom(t)
	before, after := p[max(k-1, 0)], p[min(k+2, columns-1)]
	return float64(w0)*before.y + float64(w1)*a.y + float64(w2)*b.y + float64(w3)*after.y
}

// edges returns the lips' edges at u. ok is false beyond the corners of the mouth.
func (a *interior) edges(u float64) (up, lo float64, ok bool) {
	if u <= a.lower[0].x || u >= a.lower[columns-1].x {
		return 0, 0, false
	}
	return curve(&a.upper, u), curve(&a.lower, u), true
}

// profile has the edges of the lips at small steps of u.
type profile struct {
	left, perUnit float64 // u of the first step, and steps in a unit
	edges         [][2]float64
}

// profile fills p with steps of a quarter of a pixel, between which edges are straight.
func (a *interior) profile(p *profile) {
	p.left, p.perUnit = a.lower[0].x, 4/a.pixel
	n := max(0, int((a.lower[columns-1].x-p.left)*p.perUnit)) + 2
	p.edges = resize(p.edges, n)
	for i := range p.edges {
		u := p.left + float64(i)/p.perUnit
		p.edges[i] = [2]float64{curve(&a.upper, u), curve(&a.lower, u)}
	}
}

// at returns the lips' edges at u. ok is false beyond the corners of the mouth.
func (p *profile) at(u float64) (up, lo float64, ok bool) {
	s := (u - p.left) * p.perUnit
	i := int(s)
	if s <= 0 || i >= len(p.edges)-1 {
		return 0, 0, false
	}
	a, b, t := &p.edges[i], &p.edges[i+1], s-float64(i)
	return a[0] + (b[0]-a[0])*t, a[1] + (b[1]-a[1])*t, true
}

// coverage returns the share of a pixel at (u, v) that lies between the lips' edges,
// up and lo.
func (a *interior) coverage(p vec, up, lo float64) float64 {
	open := (lo - up) / a.pixel
	if open <= 0 {
		return 0
	}
	c := clamp((p.y-up)/a.pixel+0.5, 0, 1) * clamp((lo-p.y)/a.pixel+0.5, 0, 1)
	return c * smoothstep(0, 1.5, open)
}

// seamShade returns how much darker the skin is at (u, v) because the lips touch
// there, 0..1. lo is the edge of the lower lip at u.
func (a *interior) seamShade(p vec, lo float64) float64 {
	x := (p.x - a.cu) / a.halfWidth
	d := (p.y - lo) / a.seamWidth()
	if d*d > seamReach*seamReach {
		return 0 // too little to change a float32
	}
	return 0.3 * math.Exp(-d*d) * (1 - x*x)
}

// seamReach is how many times its width the seam reaches to either side.
const seamReach = 4.25

func (a *interior) seamWidth() float64 { return max(0.010, 1.3*a.pixel) }

func mix(a, b colour, t float64) colour {
	k := float32(t)
	return colour{a[0] + (b[0]-a[0])*k, a[1] + (b[1]-a[1])*k, a[2] + (b[2]-a[2])*k}
}

// shade scales the light of a colour and its saturation.
func (a *interior) shade(c colour, light, saturation float64) colour {
	s := float32(light * saturation)
	return colour{
		a.black + (c[0]-a.black)*float32(light),
		128 + (c[1]-128)*s,
		128 + (c[2]-128)*s,
	}
}

// teethEnds are the sides of the upper teeth from the middle outwards, in face units.
var teethEnds = [...]float64{0, 0.092, 0.162, 0.226, 0.276, 0.316, 0.346}

// tooth returns how much of a pixel a row of teeth covers and how light it is there. u
// is the distance from the middle of the row and v that from its edge, towards the roots;
// teeth are narrower by the factor size.
func tooth(u, v, size, pixel float64) (cover, light float64) {
	u = math.Abs(u) / size
	n := 0
	for n < len(teethEnds)-2 && u > teethEnds[n+1] {
		n++
	}
	a, b := teethEnds[n], teethEnds[n+1]
	x := (u - (a+b)/2) / (b - a) * 2 // -1..1 across the tooth
	// The edges of the teeth are on a curve, and their corners are round.
	v -= 0.16*u*u + 0.010*x*x*x*x
	if n == 1 {
		v -= 0.006
	}
	soft := max(0.006, 0.7*pixel)
	cover = smoothstep(-soft, soft, v)
	if cover == 0 {
		return 0, 0
	}
	cover *= 1 - smoothstep(teethEnds[len(teethEnds)-1]-0.02, teethEnds[len(teethEnds)-1], u)
	side := (1 - math.Abs(x)) * (b - a) / 2
	light = (0.8 + 0.2*smoothstep(0, max(0.010, pixel), side)) * (1 - 4.5*u*u) * (0.94 + 0.06*smoothstep(0, 0.03, v))
	return cover, light
}

// paint returns the colour at (u, v) between the lips' edges up and lo; own is
// the speaker's own mouth, or nil if it was never seen.
func (a *interior) paint(p vec, up, lo float64, own *plate) colour {
	height := max(lo-up, 1e-6)
	// Hardly any light gets between lips that are hardly parted.
	parted := 0.4 + 0.6*smoothstep(0.008, 0.045, height)
	if own == nil {
		return a.draw(p, up, lo, parted, false)
	}
	tooth, seen := own.look(p.sub(a.behind), a.lower[columns/2].y, (p.y-up)/height, a.skin)
	edge := smoothstep(0, 0.02, p.y-up) * smoothstep(0, 0.012, lo-p.y)
	tooth = a.shade(tooth, (0.8+0.2*edge)*parted, 1)
	if seen > 0.999 {
		return tooth
	}
	return mix(a.draw(p, up, lo, parted, true), tooth, seen)
}

// draw returns the colour at (u, v) of a mouth that was never seen, or of what was not
// seen of it. parted is the light between the lips.
func (a *interior) draw(p vec, up, lo, parted float64, known bool) colour {
	x := (p.x - a.cu) / a.halfWidth
	height := max(lo-up, 1e-6)
	// Dark red: light is lost in the cavity faster than colour.
	c := a.shade(a.lip, 0.14, 4)

	tongueHeight := (0.45 + 0.3*a.tongue) * height
	t := smoothstep(lo-tongueHeight, lo-0.25*tongueHeight, p.y) * (1 - x*x)
	if t != 0 {
		c = mix(c, a.shade(a.lip, 0.45+0.2*a.tongue, 1.7), t)
	}

	q := p.sub(a.behind)
	if lower, light := tooth(q.x-a.middle, p.y-a.lower[columns/2].y+0.02, 0.72, a.pixel); lower > 0 {
		c = mix(c, a.shade(a.skin, 0.62*light, 0.3), lower*smoothstep(0.05, 0.12, height))
	}
	if upper, light := tooth(q.x-a.middle, a.teethEdge-q.y, 1, a.pixel); upper > 0 {
		if known { // they continue the speaker's own where these were not seen, under the lip
			upper *= 1 - smoothstep(0.015, 0.03, p.y-up)
		}
		c = mix(c, a.shade(a.skin, light, 0.25), upper)
	}
	// The lips shade what is right behind them.
	light := (0.6 + 0.4*smoothstep(0, 0.03, p.y-up)) * (0.75 + 0.25*smoothstep(0, 0.015, lo-p.y))
	return a.shade(c, light*(1-0.35*x*x)*parted, 1)
}

// plate is the inside of the speaker's own mouth as seen in the widest opening
// so far, in face coordinates around the lips' parting.
type plate struct {
	c    [plateH * plateW]colour
	seen [plateH * plateW]float32
	best float64 // opening at which it was taken
	v0   float64 // v of the top row
	jaw  float64 // v of the lower lip's inner edge
	skin colour
}

// The plate spans 0.8 x 0.6 units; 200 samples a unit is finer than a face of
// 200 pixels between the eyes.
const (
	plateW, plateH = 160, 120
	plateScale     = 200.0
)

func (t *plate) cell(p vec) (x, y float64) {
	return (p.x + plateW/plateScale/2) * plateScale, (p.y - t.v0) * plateScale
}

// look returns the colour at a point q of the skull in the light that shows the skin
// as it is now, and how reliable it is, 0..1. down is 0 at the upper lip and 1 at the
// lower one: the lower half of what was seen goes with the jaw, to v.
func (t *plate) look(q vec, jaw, down float64, skin colour) (colour, float64) {
	// A mouth that is hardly open shows the upper teeth only.
	low := smoothstep(0.45, 0.75, down) * smoothstep(0.10, 0.18, t.best)
	var a, b, c colour
	var seenA, seenB, seen float64
	if low < 1 {
		a, seenA = t.sample(q)
	}
	if low > 0 {
		b, seenB = t.sample(vec{q.x, q.y + t.jaw - jaw})
	}
	switch wa, wb := seenA*(1-low), seenB*low; {
	case wa+wb < 1e-3:
		return colour{}, 0
	case wb == 0:
		c, seen = a, wa
	default:
		c, seen = mix(a, b, wb/(wa+wb)), wa+wb
	}
	c[0] *= light(t.skin, skin)
	return c, max(seen, min(seenA, seenB))
}

// light returns how much lighter the skin is now than it was.
func light(was, is colour) float32 { return min(max(is[0]/max(was[0], 1), 0.5), 2) }

// sample returns the colour at a point and how reliable it is, 0..1.
func (t *plate) sample(p vec) (colour, float64) {
	x, y := t.cell(p)
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	if x0 < 0 || y0 < 0 || x0 >= plateW-1 || y0 >= plateH-1 {
		return colour{}, 0
	}
	fx, fy := float32(x-float64(x0)), float32(y-float64(y0))
	i := y0*plateW + x0
	var c colour
	var seen float32
	for j, w := range [4]float32{(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy} {
		k := i + j%2 + j/2*plateW
		w *= t.seen[k]
		seen += w
		for n := range 3 {
			c[n] += w * t.c[k][n]
		}
	}
	if seen < 1e-3 {
		return colour{}, 0
	}
	all := 1 / seen
	return colour{c[0] * all, c[1] * all, c[2] * all}, float64(seen)
}

// learn takes the inside of the mouth from a frame in which it is open; from is its
// mesh in pixels. in knows the light and the place of the teeth.
func (t *plate) learn(from []vec, ps *pose, in *interior, read func(vec) colour) {
	a := interior{}
	for k := range columns {
		a.upper[k], a.lower[k] = ps.toFace(from[upperLip[rings-1][k]]), ps.toFace(from[lowerLip[rings-1][k]])
	}
	gap := a.lower[columns/2].y - a.upper[columns/2].y
	if gap < 0.02 || gap < 0.9*t.best {
		return
	}
	rate := 0.35 // several frames agree before the plate has changed
	if t.best == 0 {
		rate = 1
		t.v0 = a.upper[columns/2].y - 0.12
	}
	t.best = max(gap, t.best)
	t.jaw += (a.lower[columns/2].y - t.jaw) * rate
	t.skin = mix(t.skin, in.skin, rate)
	for x := range plateW {
		u := (float64(x)-plateW/2)/plateScale + in.behind.x
		up, lo, ok := a.edges(u)
		for y := range plateH {
			p := vec{u, t.v0 + float64(y)/plateScale + in.behind.y}
			i := y*plateW + x
			var seen float32
			if ok && p.y > up && p.y < lo {
				// Stay clear of the lips' edges, which the mesh knows only to
				// about a pixel.
				seen = float32(smoothstep(0.004, 0.014, p.y-up) * smoothstep(0.010, 0.024, lo-p.y))
			}
			if seen > 0 {
				c := read(ps.toPixels(p))
				if t.seen[i] == 0 {
					t.c[i] = c
				}
				t.c[i] = mix(t.c[i], c, rate)
			}
			t.seen[i] += (seen - t.seen[i]) * float32(rate)
		}
	}
}
