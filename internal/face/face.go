// Package face finds faces, follows one of them through the video and maps
// between the frame and the aligned crop on which the engines work.
//
// Conventions: "left" and "right" are sides of the image, not of the subject.
// Pixel centres are at integer coordinates. Angles are in radians.
package face

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// Point is a point in pixels. Z has the same scale; smaller is nearer to the camera.
type Point struct{ X, Y, Z float64 }

// Face is a face in one frame, after tracking and smoothing. It never changes once
// the tracker has returned it, and frames with the same content may share it.
type Face struct {
	Track  int     // number of the track, 0-based; a new one after each cut or loss
	Points []Point // 478 MediaPipe points in frame pixels
	Score  float64 // presence, 0..1
	Yaw    float64 // how far the head is turned, in radians; positive to the image's right
	// Align maps frame pixels to the template of TemplateW x TemplateH that the
	// preview engine crops with: a similarity without any rounding. LatentSync's own
	// matrix is Aligner.Matrix.
	Align frame.Affine
	// Bridged is true if the face was not seen in this frame and its points are
	// interpolated from the neighbouring frames.
	Bridged bool
}

func dist(a, b Point) float64 { return math.Hypot(a.X-b.X, a.Y-b.Y) }

// yaw returns how far the head is turned to the image's right, in radians. The
// rotation from the mean face to the points is a weighted least-squares fit of the
// points that move little with the expression.
func yaw(p []Point) float64 {
	var sum float64
	var ca, cb [3]float64 // centroids: mean face, points with y up and z near
	at := func(i int) [3]float64 { return [3]float64{p[i].X, -p[i].Y, -p[i].Z} }
	mean := func(i int) [3]float64 { return [3]float64{Canonical[i].X, Canonical[i].Y, Canonical[i].Z} }
	for _, w := range poseBasis {
		a, b := mean(w.index), at(w.index)
		sum += w.weight
		for k := range 3 {
			ca[k] += w.weight * a[k]
			cb[k] += w.weight * b[k]
		}
	}
	var s [3][3]float64 // covariance, mean face by points
	for _, w := range poseBasis {
		a, b := mean(w.index), at(w.index)
		for i := range 3 {
			for j := range 3 {
				s[i][j] += w.weight * (a[i] - ca[i]/sum) * (b[j] - cb[j]/sum)
			}
		}
	}
	q := rotation(s)
	// The rotation is Rz·Ry(yaw)·Rx(pitch), and this is the sine of yaw.
	return math.Asin(min(max(2*(q[0][2]-q[1][3]), -1), 1))
}

// rotation returns the rotation R that maximises trace(R·S) for the covariance S, as
// the products q[i]·q[j] of its quaternion, real part first. The quaternion is the
// eigenvector of the largest eigenvalue of a symmetric matrix (Horn, Closed-form
// solution of absolute orientation using unit quaternions, 1987).
func rotation(s [3][3]float64) [4][4]float64 {
	a := [4][4]float64{
		{s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]},
		{0, s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]},
		{0, 0, -s[0][0] + s[1][1] - s[2][2], s[1][2] + s[2][1]},
		{0, 0, 0, -s[0][0] - s[1][1] + s[2][2]},
	}
	var norm float64
	for i := range a {
		for j := range i {
			a[i][j] = a[j][i]
		}
		for _, v := range a[i] {
			norm += math.Abs(v)
		}
	}
	for i := range a {
		a[i][i] += norm // makes all eigenvalues positive
	}
	for range 14 { // each squaring doubles the lead of the largest eigenvalue
		var next [4][4]float64
		trace := a[0][0] + a[1][1] + a[2][2] + a[3][3]
		for i := range a {
			for j := range a {
				for k := range a {
					next[i][j] += a[i][k] / trace * (a[k][j] / trace)
				}
			}
		}
		a = next
	}
	trace := a[0][0] + a[1][1] + a[2][2] + a[3][3]
	for i := range a {
		for j := range a {
			a[i][j] /= trace
		}
	}
	return a
}
