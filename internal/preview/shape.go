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
	chin         vec
}

// readLips takes the lips out of a mesh in face coordinates.
func readLips(p []vec) lips {
	var l lips
	for r := range rings {
		for k := range columns {
			l.upper[r][k], l.lower[r][k] = p[upperLip[r][k]], p[lowerLip[r][k]]
		}
	}
	l.chin = p[152]
	return l
}

// gap is the opening between the inner lips in the middle of the mouth.
func (l *lips) gap() float64 {
	g := 0.0
	for k := 4; k <= 6; k++ {
		g += l.lower[rings-1][k].y - l.upper[rings-1][k].y
	}
	return math.Max(0, g/3)
}

// ringFollow is how far each ring, from the outer edge inwards, goes along
// when the inner lip moves to close the mouth.
var ringFollow = [rings]float64{0.55, 0.75, 0.92, 1}

// closed brings the lips together: they meet on a seam 40 % of the way from
// the upper to the lower lip, because a parted mouth is closed more by the
// lower lip than by the upper one. jawOpen is how much of the gap comes from a
// dropped jaw; the chin takes it back.
func (l lips) closed(jawOpen float64) lips {
	const in = rings - 1
	out := l
	for k := 1; k < columns-1; k++ {
		up, lo := l.upper[in][k], l.lower[in][k]
		seam := lerp(up, lo, 0.4)
		for r := range rings {
			out.upper[r][k] = l.upper[r][k].add(seam.sub(up).mul(ringFollow[r]))
			follow := ringFollow[r]
			if g := l.gap(); g > 0 {
				// With the jaw dropped the whole lip comes up.
				follow += (1 - follow) * clamp(jawOpen/g, 0, 1)
			}
			out.lower[r][k] = l.lower[r][k].add(seam.sub(lo).mul(follow))
		}
	}
	out.chin.y -= jawOpen
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
	l.chin = lerp(l.chin, target.chin, a)
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
		profile := math.Pow(math.Max(0, 1-x*x), power)
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
	out.chin.y += a * jawShare
	return out
}
