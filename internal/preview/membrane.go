package preview

import "github.com/lipstream/lipstream/internal/face"

// membrane spreads the displacement of the prescribed points over the others
// as a thin elastic sheet would: each free point takes the mean of its
// neighbours (a discrete Laplace equation). The equation is linear and the
// same for every face, so it is solved once: each free point is a fixed mix
// of the points that move.
type membrane struct {
	*topology
	free []uint16
	mix  []float64 // [len(free), len(moved)]
	d    []vec     // displacement of every point in face coordinates
}

func newMembrane(top *topology) *membrane {
	m := &membrane{topology: top, d: make([]vec, len(top.fixed))}
	column := map[uint16]int{}
	for c, i := range m.moved {
		column[i] = c
	}
	row := map[uint16]int{}
	for i, f := range top.fixed {
		if !f && len(top.neighbours[i]) > 0 {
			row[uint16(i)] = len(m.free)
			m.free = append(m.free, uint16(i))
		}
	}
	// degree·x[i] - sum of free neighbours = sum of moving neighbours; the
	// still ones are zero.
	n, k := len(m.free), len(m.moved)
	a := make([][]float64, n)
	for r, i := range m.free {
		a[r] = make([]float64, n+k)
		a[r][r] = float64(len(top.neighbours[i]))
		for _, j := range top.neighbours[i] {
			if c, ok := row[j]; ok {
				a[r][c]--
			} else if c, ok := column[j]; ok {
				a[r][n+c]++
			}
		}
	}
	eliminate(a)
	for _, r := range a {
		m.mix = append(m.mix, r[n:]...)
	}
	return m
}

// eliminate solves A·X = B for the rows [A B]; A is symmetric and diagonally
// dominant, so no pivoting is needed. X takes B's place.
func eliminate(a [][]float64) {
	for p := range a {
		inv := 1 / a[p][p]
		for c := p; c < len(a[p]); c++ {
			a[p][c] *= inv
		}
		for r := range a {
			f := a[r][p]
			if r == p || f == 0 {
				continue
			}
			for c := p; c < len(a[p]); c++ {
				a[r][c] -= f * a[p][c]
			}
		}
	}
}

// move displaces the mesh so that its lips go from one shape to another and the
// chin goes down by drop.
func (m *membrane) move(from, to *lips, drop float64) {
	for _, j := range jaw {
		d := vec{0, drop * j.share}
		m.d[j.left], m.d[j.right] = d, d
	}
	for r := range rings {
		for k := range columns {
			m.d[upperLip[r][k]] = to.upper[r][k].sub(from.upper[r][k])
			m.d[lowerLip[r][k]] = to.lower[r][k].sub(from.lower[r][k])
		}
	}
	for r, i := range m.free {
		var s vec
		for c, w := range m.mix[r*len(m.moved) : (r+1)*len(m.moved)] {
			s = s.add(m.d[m.moved[c]].mul(w))
		}
		m.d[i] = s
	}
}

// unfold moves points between lips and chin to the middle of their neighbours where the
// mesh is folded: the network finds the lips of a wide open mouth, but the skin around
// them does not follow.
func (m *membrane) unfold(p []vec) {
	for range 8 {
		folded := false
		for _, t := range m.triangles {
			if t[0] >= meshPoints || t[1] >= meshPoints || t[2] >= meshPoints || facing([3]vec{p[t[0]], p[t[1]], p[t[2]]}) {
				continue
			}
			for _, i := range t {
				if !m.fixed[i] && m.below[i] {
					var s vec
					for _, j := range m.neighbours[i] {
						s = s.add(p[j])
					}
					p[i], folded = s.mul(1/float64(len(m.neighbours[i]))), true
				}
			}
		}
		if !folded {
			return
		}
	}
}

// surround appends the rings of extra points around the face oval to the mesh.
func surround(p []vec) []vec {
	var centre vec
	for _, i := range face.FaceOval {
		centre = centre.add(p[i])
	}
	centre = centre.mul(1 / float64(len(face.FaceOval)))
	for _, reach := range ringReach {
		for _, i := range face.FaceOval {
			p = append(p, lerp(centre, p[i], reach))
		}
	}
	return p
}
