package preview

import "math"

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
// lips in from with them.
func edges(from, to []vec, ps *pose, gap float64, mouth *rim) (upper, lower [strands]strand) {
	upper, lower = strandsOf(&upperLip, mouth.mesh, to), strandsOf(&lowerLip, mouth.mesh, to)
	// The edges are found to about a pixel; where the source mouth is open, a sliver of
	// teeth would otherwise be seen along the seam.
	margin := min(0.006, 0.15*gap)*ps.unit + min(gap*ps.unit, 0.7)
	for n, lip := range [2]*[strands]strand{&upper, &lower} {
		for j := range lip {
			if mouth.sure > 0 && j > 0 && j < strands-1 {
				for r := range rings {
					lip[j].from[r] = mouth.bend(lip[j].from[r], n, ps)
				}
			}
			// In the corners the dark between the lips reaches farther.
			corner := 1 - float64(min(j, strands-1-j))/(3*finer)
			lip[j].retreat(margin * (1 + max(0, corner)))
		}
	}
	// The seam of closed lips has no room between the curves of both.
	for j := range upper {
		upper[j].to[rings-1] = upper[j].to[rings-1].add(ps.v.mul(1 / ps.unit))
	}
	for r := range rings {
		for k := range columns {
			if k > 0 && k < columns-1 {
				from[upperLip[r][k]] = upper[k*finer].from[r]
			}
			from[lowerLip[r][k]] = lower[k*finer].from[r]
		}
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

// retreat moves the source of a strand by margin pixels into the flesh, from the inner edge
// on, so that no ring passes another.
func (s *strand) retreat(margin float64) {
	d := s.from[0].sub(s.from[rings-1])
	height := math.Hypot(d.x, d.y)
	if height < 1e-6 {
		return
	}
	inner := min(margin/height, 0.8)
	for r, p := range s.from {
		e := s.from[0].sub(p)
		depth := (e.x*d.x + e.y*d.y) / (height * height) // 0 at the outer edge
		s.from[r] = p.add(d.mul(inner * depth))
	}
}

// distance returns how much two colours differ.
func distance(c, q colour) float32 {
	y, b, r := 0.6*(c[0]-q[0]), 1.5*(c[1]-q[1]), 1.5*(c[2]-q[2])
	return y*y + b*b + r*r
}

// nearest returns the smallest distance of c to one of the colours.
func nearest(c colour, to []colour) float32 {
	best := float32(math.Inf(1))
	for _, q := range to {
		best = min(best, distance(c, q))
	}
	return best
}
