package golden

import "math"

// Anchors106 returns the anchors by which LatentSync 1.5 and 1.6 align a face,
// from InsightFace's 106 points (docs/spec/latentsync.md 3): the points, then the
// means of eyes and nose, each rounded half to even.
func Anchors106(points [][2]float64) (anchors [3][2]float64) {
	for i, group := range [][]int{{43, 48, 49, 51, 50}, {101, 102, 103, 104, 105}, {74, 77, 83, 86}} {
		for _, k := range group {
			for c := range 2 {
				anchors[i][c] += math.RoundToEven(points[k][c])
			}
		}
		for c := range 2 {
			anchors[i][c] = math.RoundToEven(anchors[i][c] / float64(len(group)))
		}
	}
	return anchors
}
