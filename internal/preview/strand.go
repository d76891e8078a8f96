package preview

import (
	"cmp"
	"math"
	"slices"
)

// finer is the number of pieces that a column of the lips is drawn in.
const finer = 4

const strands = (columns-1)*finer + 1

// strand is a line across a lip from its outer edge to the inner one, in pixels: where
// it is in the source, and where it goes.
type strand struct{ from, to [rings]vec }

// strandsOf draws smooth curves through the points of a lip, ring by ring. The mesh has
// chords there, which would drag along what is behind the lips.
func strandsOf(lip *[rings][columns]uint16, from, to []vec) (out [strands]strand) {
	for j := range out {
		k := j / finer
		var w [4]float32
		w[0], w[1], w[2], w[3] = catmullRom(float32(j%finer) / finer)
		for r := range rings {
			for n, q := range w {
				i := lip[r][min(max(k-1+n, 0), columns-1)]
				out[j].from[r] = out[j].from[r].add(from[i].mul(float64(q)))
				out[j].to[r] = out[j].to[r].add(to[i].mul(float64(q)))
			}
		}
	}
	return out
}

// edges returns both lips of a mouth with an opening of gap face units, and moves the
// outer edges in from with them.
func edges(from, to []vec, ps *pose, gap float64, read func(vec) colour) (upper, lower [strands]strand) {
	upper, lower = strandsOf(&upperLip, from, to), strandsOf(&lowerLip, from, to)
	// The edges are found to about a pixel; where the source mouth is open, a sliver of
	// teeth would otherwise be seen along the seam.
	margin := min(0.012, 0.3*gap)*ps.unit + min(gap*ps.unit, 1)
	var shifts [2][strands]float64
	if open := smoothstep(0.008, 0.02, gap); open > 0 {
		step := max(0.5, 0.006*ps.unit)
		u, l := upper, lower
		shifts[0] = innerEdge(&u, &l, step, open, read)
		shifts[1] = innerEdge(&l, &u, step, open, read)
	}
	for n, lip := range []*[strands]strand{&upper, &lower} {
		for j := range lip {
			// In the corners the dark between the lips reaches farther than the mesh.
			corner := 1 - float64(min(j, strands-1-j))/(3*finer)
			lip[j].retreat(margin*(1+max(0, corner)), shifts[n][j])
		}
	}
	for k := range columns {
		if k > 0 && k < columns-1 {
			from[upperLip[0][k]] = upper[k*finer].from[0]
		}
		from[lowerLip[0][k]] = lower[k*finer].from[0]
	}
	return upper, lower
}

// lip draws a lip over the mesh, where its front is seen; side is 1 for the lower lip and
// -1 for the upper one, whose columns run the other way around.
func (f *field) lip(lip *[strands]strand, side float64) {
	seen := func(a, b, c vec) bool { return side*((b.x-a.x)*(c.y-a.y)-(b.y-a.y)*(c.x-a.x)) < 0 }
	piece := func(a, b, c, p, q, r vec) {
		if seen(a, b, c) && seen(p, q, r) {
			f.triangle([3]vec{a, b, c}, [3]vec{p, q, r})
		}
	}
	for j := range strands - 1 {
		a, b := &lip[j], &lip[j+1]
		for r := range rings - 1 {
			piece(a.to[r], b.to[r], a.to[r+1], a.from[r], b.from[r], a.from[r+1])
			piece(b.to[r], b.to[r+1], a.to[r+1], b.from[r], b.from[r+1], a.from[r+1])
		}
	}
}

// thinnest is the part of a lip's height that stays when its source retreats; an edge that is
// further away moves the outer edge too.
const thinnest = 0.5

// retreat moves the source of a strand into the flesh, so that no ring passes another: by
// margin pixels beyond the inner edge, which is shift pixels from the mesh's.
func (s *strand) retreat(margin, shift float64) {
	d := s.from[0].sub(s.from[rings-1])
	height := math.Hypot(d.x, d.y)
	if height < 1e-6 {
		return
	}
	shift = min(shift/height, farthest)
	inner, outer := max(shift, min(shift+margin/height, 0.8)), max(0, shift-thinnest)
	for r := range rings {
		s.from[r] = s.from[r].add(d.mul(outer + (inner-outer)*float64(r)/(rings-1)))
	}
}

// farthest is how far, in parts of a lip's height, its inner edge may be from the mesh's.
const farthest = 1.4

// The places at which the inner edge of a lip is looked for: steps into the opening of the
// mouth and into the lip.
const (
	stepsIn  = 6
	stepsOut = 14
	places   = stepsIn + 1 + stepsOut
)

// innerEdge returns how many pixels the inner edge of a lip lies from the mesh's, in the
// direction of the outer edge: where the colours change from those between the lips to those
// of the lip and of the skin beyond it. The edge is smooth, so all strands are looked at
// together: it is the path of least cost across them.
func innerEdge(lip, other *[strands]strand, step, open float64, read func(vec) colour) (shifts [strands]float64) {
	var red []colour // the reddest colours of the lip: its highlights look like teeth
	for _, j := range [...]int{strands/2 - finer, strands / 2, strands/2 + finer} {
		for _, t := range [...]float64{0.35, 0.6} {
			red = append(red, read(lerp(lip[j].from[rings-1], lip[j].from[0], t)))
		}
	}
	slices.SortFunc(red, func(a, b colour) int { return cmp.Compare(b[2]-b[1], a[2]-a[1]) })
	red = red[:3]
	var cost [strands][places]float64
	var came [strands][places]int
	for j := range strands {
		own := splits(lip, other, j, step, red, read)
		for p := range places {
			if j == 0 {
				cost[j][p] = own[p]
				continue
			}
			best, at := math.Inf(1), p
			for q := max(0, p-3); q <= min(places-1, p+3); q++ {
				if c := cost[j-1][q] + 0.15*float64((p-q)*(p-q)); c < best {
					best, at = c, q
				}
			}
			cost[j][p], came[j][p] = best+own[p], at
		}
	}
	p := stepsIn
	for q := range places {
		if cost[strands-1][q] < cost[strands-1][p] {
			p = q
		}
	}
	for j := strands - 1; j >= 0; j-- {
		shifts[j] = open * step * float64(p-stepsIn)
		p = came[j][p]
	}
	return shifts
}

// splits returns the cost of each place for the inner edge of a lip in strand j: the pixels
// that look like the wrong side of it, and a little for its distance from the mesh's.
func splits(lip, other *[strands]strand, j int, step float64, red []colour, read func(vec) colour) (cost [places]float64) {
	const in = rings - 1
	edge, outer, across := lip[j].from[in], lip[j].from[0], other[j].from[in]
	d := outer.sub(edge)
	height := math.Hypot(d.x, d.y)
	for p := range cost {
		away := float64(p - stepsIn)
		cost[p] = 0.02 * away * away
		if p < stepsIn { // a lip that is cut is better than one with teeth
			cost[p] *= 5
		}
	}
	w := across.sub(edge)
	gap := math.Hypot(w.x, w.y)
	if height < 2 || gap < 3 {
		return cost
	}
	flesh := red
	for _, t := range [...]float64{1.5, 1.9, 2.3} {
		flesh = append(flesh[:len(flesh):len(flesh)], read(lerp(edge, outer, t)))
	}
	// The corners of the mouth are dark.
	behind := []colour{{0.35 * red[0][0], 128 + 0.5*(red[0][1]-128), 128 + 0.5*(red[0][2]-128)}}
	// Nearer to the middle, the opening is wider.
	for _, k := range [...]int{j, j + (strands/2-j)/4} {
		for _, t := range [...]float64{0.25, 0.4, 0.55} {
			behind = append(behind, read(lerp(lip[k].from[in], other[k].from[in], t)))
		}
	}
	for p := range places {
		at := float64(p-stepsIn) * step
		if at > farthest*height || at < -0.2*gap {
			for q := range cost {
				if at < 0 && q <= p || at > 0 && q > p {
					cost[q] += 10
				}
			}
			continue
		}
		around := flesh
		if at < 0.8*height {
			around = red // teeth look much like skin, but not like lips
		}
		c := read(edge.add(d.mul(at / height)))
		a, b := nearest(c, around), nearest(c, behind)
		mouth := float64((a - b) / (a + b + 30)) // -1 for flesh, 1 for what is behind the lips
		for q := range cost {
			if q > p {
				cost[q] -= mouth // the edge is further out: this is the mouth
			} else {
				cost[q] += mouth
			}
		}
	}
	return cost
}

// nearest returns the smallest distance of c to one of the colours.
func nearest(c colour, to []colour) float32 {
	best := float32(math.Inf(1))
	for _, q := range to {
		y, b, r := 0.6*(c[0]-q[0]), 1.5*(c[1]-q[1]), 1.5*(c[2]-q[2])
		best = min(best, y*y+b*b+r*r)
	}
	return best
}
