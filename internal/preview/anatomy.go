package preview

import (
	"slices"

	"github.com/lipstream/lipstream/internal/face"
)

// Lip points in columns from the image-left corner to the image-right corner,
// ring by ring from the outer edge of the lips to the inner one. The two
// corners belong to the lower rows. MediaPipe's topology has exactly these
// four rings (see internal/face, attention_lips).
const (
	rings   = 4
	columns = 11
)

var lowerLip = [rings][columns]uint16{
	{61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291},
	{76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306},
	{62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292},
	{78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308},
}

// upperLip has no corners of its own: its first and last entries repeat those
// of lowerLip so that both have the same columns.
var upperLip = [rings][columns]uint16{
	{61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291},
	{76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306},
	{62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292},
	{78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308},
}

// bothLips has the upper lip and the lower one.
var bothLips = [2]*[rings][columns]uint16{&upperLip, &lowerLip}

// jaw lists the jaw line from the image-left ear over the chin, with the share
// of the jaw's drop that each point takes; the image-right half mirrors it.
var jaw = []struct {
	left, right uint16
	share       float64
}{
	{234, 454, 0}, {93, 323, 0.04}, {132, 361, 0.12}, {58, 288, 0.25}, {172, 397, 0.42},
	{136, 365, 0.6}, {150, 379, 0.77}, {149, 378, 0.9}, {176, 400, 0.97}, {148, 377, 1}, {152, 152, 1},
}

// still lists points that speech does not move: everything at or above the
// nose's base that borders on the moving part.
var still = []uint16{
	// nose: base, wings, septum
	2, 97, 326, 98, 327, 64, 294, 48, 278, 129, 358, 19, 94, 4, 1, 240, 460, 75, 305, 60, 290, 99, 328,
	// lower lids and the cheekbones under them
	228, 229, 230, 231, 232, 448, 449, 450, 451, 452, 117, 118, 119, 120, 346, 347, 348, 349,
	// ears and temples
	127, 356, 227, 447, 116, 345, 137, 366, 234, 454,
}

const meshPoints = 468

// meshRings is the number of rings of extra points around the face oval. They
// carry the jaw's movement into neck and background and let it fade out there.
const meshRings = 3

// ringReach is each extra ring's distance from the face's centre, in units of
// the oval's; the last ring does not move.
var ringReach = [meshRings]float64{1.1, 1.22, 1.36}

// topology is the fixed part of the mesh: triangles, neighbours, and which
// points are prescribed. It is the same for every face.
type topology struct {
	triangles  [][3]uint16 // all but the mouth's inside
	neighbours [][]uint16
	fixed      []bool   // prescribed: lips, jaw line, still points, last ring
	moved      []uint16 // the prescribed points that move: lips and jaw line
	below      []bool   // points under the corners of the mouth
}

func newTopology() *topology {
	inner := map[uint16]bool{}
	for k := range columns {
		inner[lowerLip[rings-1][k]] = true
		inner[upperLip[rings-1][k]] = true
	}
	t := &topology{}
	oval := face.FaceOval
	n := len(oval)
	at := func(ring, i int) uint16 { // ring -1 is the oval itself
		if ring < 0 {
			return uint16(oval[i%n])
		}
		return uint16(meshPoints + ring*n + i%n)
	}
	for ring := range meshRings {
		for i := range n {
			a, b, c, d := at(ring-1, i), at(ring-1, i+1), at(ring, i), at(ring, i+1)
			t.triangles = append(t.triangles, [3]uint16{a, b, c}, [3]uint16{b, d, c})
		}
	}
	// The face comes after the rings and hides them: the far side of a turned head lies in
	// front of its own outline.
	for _, tri := range face.Triangles {
		if !inner[tri[0]] || !inner[tri[1]] || !inner[tri[2]] {
			t.triangles = append(t.triangles, tri)
		}
	}
	total := meshPoints + meshRings*n
	t.fixed = make([]bool, total)
	move := func(points ...uint16) {
		for _, i := range points {
			if !t.fixed[i] {
				t.fixed[i], t.moved = true, append(t.moved, i)
			}
		}
	}
	for r := range rings {
		for k := range columns {
			move(upperLip[r][k], lowerLip[r][k])
		}
	}
	for _, j := range jaw {
		move(j.left, j.right)
	}
	for _, i := range still {
		t.fixed[i] = true
	}
	for i := range n {
		t.fixed[at(meshRings-1, i)] = true
	}
	t.below = make([]bool, meshPoints)
	for i := range t.below {
		t.below[i] = face.Canonical[i].Y < face.Canonical[61].Y
	}
	t.neighbours = neighbours(t.triangles, total)
	return t
}

// neighbours returns the points with which each of n points shares an edge, in order.
func neighbours(tris [][3]uint16, n int) [][]uint16 {
	out := make([][]uint16, n)
	for _, t := range tris {
		for k := range 3 {
			a, b := t[k], t[(k+1)%3]
			out[a], out[b] = append(out[a], b), append(out[b], a)
		}
	}
	for i := range out {
		slices.Sort(out[i])
		out[i] = slices.Compact(out[i])
	}
	return out
}
