package preview

import "math"

// interior paints the inside of the mouth. Everything is placed in face
// coordinates: upper teeth stay with the skull, the tongue goes with the lower
// lip.
type interior struct {
	upper, lower  [columns]vec // inner lips, corner to corner
	teethEdge     float64      // v of the front teeth's lower edge
	tongue        float64      // 0..1: how far the tongue's tip is raised
	pixel         float64      // size of a pixel in face units
	skin, lip     colour
	black         float32 // code value of black
	halfWidth, cu float64
}

func newInterior(l *lips, neutral *lips, tongue, unit float64) interior {
	const in = rings - 1
	a := interior{upper: l.upper[in], lower: l.lower[in], tongue: tongue, pixel: 1 / unit}
	a.cu = (a.lower[0].x + a.lower[columns-1].x) / 2
	a.halfWidth = math.Max(1e-3, (a.lower[columns-1].x-a.lower[0].x)/2)
	// At rest the front teeth end about a millimetre below the parting of the
	// lips.
	a.teethEdge = neutral.lower[in][columns/2].y + 0.014
	return a
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
	w := catmullRom(t)
	before, after := p[max(k-1, 0)], p[min(k+2, columns-1)]
	return float64(w[0])*before.y + float64(w[1])*a.y + float64(w[2])*b.y + float64(w[3])*after.y
}

// edges returns the lips' edges at u. ok is false beyond the corners of the mouth.
func (a *interior) edges(u float64) (up, lo float64, ok bool) {
	if u <= a.lower[0].x || u >= a.lower[columns-1].x {
		return 0, 0, false
	}
	return curve(&a.upper, u), curve(&a.lower, u), true
}

// coverage returns the share of a pixel at (u, v) that lies between the lips, and
// the lips' edges at u.
func (a *interior) coverage(p vec) (c, up, lo float64) {
	up, lo, ok := a.edges(p.x)
	open := (lo - up) / a.pixel
	if !ok || open <= 0 {
		return 0, up, lo
	}
	c = clamp((p.y-up)/a.pixel+0.5, 0, 1) * clamp((lo-p.y)/a.pixel+0.5, 0, 1)
	return c * smoothstep(0, 1.5, open), up, lo
}

// seamShade returns how much darker the skin is at (u, v) because the lips touch
// there, 0..1.
func (a *interior) seamShade(p vec) float64 {
	_, lo, ok := a.edges(p.x)
	if !ok {
		return 0
	}
	x := (p.x - a.cu) / a.halfWidth
	width := math.Max(0.010, 1.3*a.pixel)
	d := (p.y - lo) / width
	return 0.3 * math.Exp(-d*d) * (1 - x*x)
}

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

// paint returns the colour at (u, v) between the lips' edges up and lo; teeth is
// the speaker's own mouth, or nil if it was never seen.
func (a *interior) paint(p vec, up, lo float64, own *plate) colour {
	x := (p.x - a.cu) / a.halfWidth
	height := math.Max(lo-up, 1e-6)
	// Dark red: light is lost in the cavity faster than colour.
	c := a.shade(a.lip, 0.14, 4)

	tongueHeight := (0.45 + 0.3*a.tongue) * height
	t := smoothstep(lo-tongueHeight, lo-0.25*tongueHeight, p.y) * (1 - x*x)
	c = mix(c, a.shade(a.lip, 0.45+0.2*a.tongue, 1.7), t)

	tooth, seen := colour{}, 0.0
	if own != nil {
		tooth, seen = own.sample(p)
	}
	if own == nil || own.best < 0.02 {
		edge := a.teethEdge - 0.03*x*x
		seen = 1 - smoothstep(edge-0.006, edge+0.006, p.y)
		seen *= 1 - smoothstep(0.7, 1, math.Abs(x))
		// Incisors are about a tenth of the eye distance wide.
		gap := math.Abs(math.Remainder(p.x-a.cu, 0.088)) / 0.088
		light := 0.98 - 0.3*x*x - 0.1*(1-smoothstep(0, 0.07, gap))
		tooth = a.shade(a.skin, light, 0.25)
	}
	c = mix(c, tooth, seen)

	// The lips shade what is right behind them.
	light := (0.6 + 0.4*smoothstep(0, 0.03, p.y-up)) * (0.75 + 0.25*smoothstep(0, 0.015, lo-p.y))
	light *= 1 - 0.35*x*x
	return a.shade(c, light, 1)
}

// plate is the inside of the speaker's own mouth as seen in the widest opening
// so far, in face coordinates around the lips' parting.
type plate struct {
	c    [plateH * plateW]colour
	seen [plateH * plateW]float32
	best float64 // opening at which it was taken
	v0   float64 // v of the top row
}

// The plate spans 0.8 x 0.4 units; 200 samples a unit is finer than a face of
// 200 pixels between the eyes.
const (
	plateW, plateH = 160, 80
	plateScale     = 200.0
)

func (t *plate) cell(p vec) (x, y float64) {
	return (p.x + plateW/plateScale/2) * plateScale, (p.y - t.v0) * plateScale
}

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
	for n := range 3 {
		c[n] /= seen
	}
	return c, float64(seen)
}

// learn takes the inside of the mouth from a frame in which it is open.
func (t *plate) learn(src *lips, read func(vec) colour) {
	gap := src.gap()
	if gap < 0.02 || gap < 0.9*t.best {
		return
	}
	rate := float32(0.35) // several frames agree before the plate has changed
	if t.best == 0 {
		rate = 1
		t.v0 = src.upper[rings-1][columns/2].y - 0.1
	}
	t.best = math.Max(gap, t.best)
	a := interior{upper: src.upper[rings-1], lower: src.lower[rings-1]}
	for y := range plateH {
		for x := range plateW {
			p := vec{(float64(x) - plateW/2) / plateScale, t.v0 + float64(y)/plateScale}
			i := y*plateW + x
			var seen float32
			if up, lo, ok := a.edges(p.x); ok {
				// Stay clear of the lips' edges, which the mesh knows only to
				// about a pixel.
				seen = float32(smoothstep(0.004, 0.014, p.y-up) * smoothstep(0.010, 0.024, lo-p.y))
			}
			if seen > 0 {
				c := read(p)
				if t.seen[i] == 0 {
					t.c[i] = c
				}
				t.c[i] = mix(t.c[i], c, float64(rate))
			}
			t.seen[i] += (seen - t.seen[i]) * rate
		}
	}
}
