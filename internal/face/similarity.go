package face

import "github.com/lipstream/lipstream/internal/frame"

// FitSimilarity returns the scaling, rotation and shift that take the points from to the points
// to with the least squared error (Umeyama, Least-squares estimation of transformation
// parameters between two point patterns, 1991). ok is false if all points of from coincide.
func FitSimilarity(from, to [][2]float64) (m frame.Affine, ok bool) {
	var a, b [2]float64 // the means
	n := float64(len(from))
	for i := range from {
		for c := range 2 {
			a[c] += from[i][c] / n
			b[c] += to[i][c] / n
		}
	}
	// In the plane, the rotation with its scale is one complex factor.
	var re, im, norm float64
	for i := range from {
		x, y, u, v := from[i][0]-a[0], from[i][1]-a[1], to[i][0]-b[0], to[i][1]-b[1]
		re += x*u + y*v
		im += x*v - y*u
		norm += x*x + y*y
	}
	if !(norm > 0) {
		return m, false
	}
	re, im = re/norm, im/norm
	return frame.Affine{A: re, B: -im, C: b[0] - re*a[0] + im*a[1], D: im, E: re, F: b[1] - im*a[0] - re*a[1]}, true
}
