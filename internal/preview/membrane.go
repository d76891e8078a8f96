package preview

import "github.com/lipstream/lipstream/internal/face"

// membraneSweeps of Gauss-Seidel bring the cheeks within a hundredth of a
// pixel of rest; the start is the frame before, which is already close.
const membraneSweeps = 30

// membrane spreads the displacement of the prescribed points over the others
// as a thin elastic sheet would: each free point takes the mean of its
// neighbours (a discrete Laplace equation).
type membrane struct {
	top  *topology
	free []uint16
	d    []vec // displacement of every point in face coordinates
}

func newMembrane(top *topology) *membrane {
	m := &membrane{top: top, d: make([]vec, len(top.fixed))}
	for i, f := range top.fixed {
		if !f && len(top.neighbours[i]) > 0 {
			m.free = append(m.free, uint16(i))
		}
	}
	return m
}

// prescribe sets the displacement of lips and jaw.
func (m *membrane) prescribe(from, to *lips) {
	for r := range rings {
		for k := range columns {
			m.d[upperLip[r][k]] = to.upper[r][k].sub(from.upper[r][k])
			m.d[lowerLip[r][k]] = to.lower[r][k].sub(from.lower[r][k])
		}
	}
	drop := to.chin.sub(from.chin)
	for _, j := range jaw {
		m.d[j.left], m.d[j.right] = drop.mul(j.share), drop.mul(j.share)
	}
}

// relax solves for the free points.
func (m *membrane) relax() {
	for range membraneSweeps {
		for _, i := range m.free {
			var s vec
			for _, j := range m.top.neighbours[i] {
				s = s.add(m.d[j])
			}
			m.d[i] = s.mul(1 / float64(len(m.top.neighbours[i])))
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
