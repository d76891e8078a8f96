package preview

import (
	"math"

	"github.com/lipstream/lipstream/internal/audio"
)

// The movements of a speaking mouth in units of the distance between the outer
// eye corners (about 90 mm in an adult). Chosen by eye on the demo within the
// ranges of speech: inner lip opening up to about 16 mm, lip corners 4 mm out
// and 5 mm in.
const (
	maxOpening   = 0.175 // inner lips apart at Open = 1
	upperShare   = 0.22  // of the opening, taken by the upper lip
	jawShare     = 0.62  // of the opening, taken by the chin
	roundCorners = 0.2   // corners drawn in, of the half width
	wideCorners  = 0.07  // corners drawn out, of the half width
	openCorners  = 0.09  // corners drawn in at the widest opening, of the half width
	roundOpening = 0.25  // of the opening, lost in a fully rounded mouth
	pressing     = 0.22  // of the lips' height, lost when they are pressed
	dentalLift   = 0.018 // upper lip raised for f and v
	minOpening   = 0.004 // below this the lips are together
)

// lips are the lip points in face coordinates.
type lips struct {
	upper, lower [rings][columns]vec
}

// readLips takes the lips out of a mesh in face coordinates.
func readLips(p []vec) lips {
	var l lips
	for r := range rings {
		for k := range columns {
			l.upper[r][k], l.lower[r][k] = p[upperLip[r][k]], p[lowerLip[r][k]]
		}
	}
	return l
}

// gap is the opening between the inner lips in the middle of the mouth.
func (l *lips) gap() float64 {
	g := 0.0
	for k := 4; k <= 6; k++ {
		g += l.lower[rings-1][k].y - l.upper[rings-1][k].y
	}
	return max(0, g/3)
}

// What closes a mouth. The lips of a smile are parted by the muscles of both; what
// they are further apart is the jaw's doing, which takes the lower lip and the chin
// with it and hardly moves the upper lip.
const (
	smileGap     = 0.06 // largest opening without the jaw
	smileUpper   = 0.4  // of that opening, taken by the upper lip
	jawUpper     = 0.12 // of the rest, taken by the upper lip
	jawChin      = 0.85 // of the rest, taken by the chin
	jawCorners   = 0.18 // of the rest, by which the corners are drawn down
	jawNarrowing = 0.2  // of the half width, lost for each unit of the rest
)

// jaw returns how far the chin is down.
func (l *lips) jaw() float64 { return jawChin * max(0, l.gap()-smileGap) }

// closed brings the lips together. Each lip moves as a whole and keeps its height;
// the skin between lower lip and chin gives way.
func (l lips) closed() lips {
	const in = rings - 1
	out := l
	jaw := max(0, l.gap()-smileGap)
	centre := lerp(l.lower[in][0], l.lower[in][columns-1], 0.5)
	for k := range columns {
		up, lo := l.upper[in][k], l.lower[in][k]
		gap := max(0, lo.y-up.y)
		part := min(gap, smileGap)
		seam := lerp(up, lo, (smileUpper*part+jawUpper*(gap-part))/max(gap, 1e-9))
		du, dl := seam.sub(up), seam.sub(lo)
		if k == 0 || k == columns-1 {
			du, dl = vec{0, -jawCorners * jaw}, vec{0, -jawCorners * jaw}
		}
		for r := range rings {
			u, d := l.upper[r][k].add(du), l.lower[r][k].add(dl)
			u.x += (u.x - centre.x) * jawNarrowing * jaw
			d.x += (d.x - centre.x) * jawNarrowing * jaw
			out.upper[r][k], out.lower[r][k] = u, d
		}
	}
	return out
}

// blend moves l towards target by the share a.
func (l *lips) blend(target *lips, a float64) {
	for r := range rings {
		for k := range columns {
			l.upper[r][k] = lerp(l.upper[r][k], target.upper[r][k], a)
			l.lower[r][k] = lerp(l.lower[r][k], target.lower[r][k], a)
		}
	}
}

// opening is the distance between the inner lips that m asks for.
func opening(m audio.Mouth) float64 {
	a := maxOpening * float64(m.Open) * (1 - float64(m.Close)) * (1 - roundOpening*float64(m.Round))
	if a < minOpening {
		return 0
	}
	return a
}

// speak shapes closed lips into what m asks for.
func (l lips) speak(m audio.Mouth) lips {
	const in = rings - 1
	a := opening(m)
	round, wide := float64(m.Round), float64(m.Wide)
	press := float64(m.Close)
	dental := float64(m.Teeth) * (1 - press)
	centre := lerp(l.lower[in][0], l.lower[in][columns-1], 0.5)
	stretch := 1 - roundCorners*round + wideCorners*wide*(1-round) - openCorners*a/maxOpening
	// A rounded mouth opens like an ellipse, a spread one like a lens.
	power := 0.85 - 0.35*round + 0.15*wide
	out := l
	for k := range columns {
		x := (float64(k) - float64(columns-1)/2) / (float64(columns-1) / 2)
		profile := math.Pow(max(0, 1-x*x), power)
		seam := l.lower[in][k]
		for r := range rings {
			up, lo := l.upper[r][k], l.lower[r][k]
			// Pressing rolls the red of the lips inwards.
			thin := 1 - pressing*press*profile
			up.y = seam.y + (up.y-seam.y)*thin
			lo.y = seam.y + (lo.y-seam.y)*thin
			// Rounding pushes the lips forward, which shows as fuller lips.
			full := 1 + 0.12*round*profile
			up.y = seam.y + (up.y-seam.y)*full
			lo.y = seam.y + (lo.y-seam.y)*full
			follow := 0.85 + 0.15*float64(r)/float64(rings-1)
			up.y -= (a*upperShare + dentalLift*dental) * profile * follow
			lo.y += a * (1 - upperShare) * profile * follow
			lo.y -= 0.4 * dentalLift * dental * profile
			up.x = centre.x + (up.x-centre.x)*stretch
			lo.x = centre.x + (lo.x-centre.x)*stretch
			out.upper[r][k], out.lower[r][k] = up, lo
		}
		// The corners sink a little with a dropped jaw.
		if k == 0 || k == columns-1 {
			for r := range rings {
				out.lower[r][k].y += 0.18 * a
				out.upper[r][k] = out.lower[r][k]
			}
		}
	}
	return out
}
