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

// Point in pixels; Z in the same scale, smaller is nearer to the camera.
type Point struct{ X, Y, Z float64 }

// Face is a face in one frame, after tracking and smoothing. It never changes once
// the tracker has returned it, and frames that repeat a picture may share it.
type Face struct {
	Track  int     // number of the track, 0-based; a new one after each cut or loss
	Points []Point // 478 MediaPipe points in frame pixels
	Score  float64 // presence, 0..1
	Yaw    float64 // head pose in radians: positive to the image's right
	Pitch  float64 // radians, positive down
	Roll   float64 // radians, positive clockwise
	// Align is the similarity, without any rounding, from frame pixels to the
	// template of 210 x 280 (TemplateW x TemplateH) that the preview engine crops
	// with. LatentSync's own matrix is Aligner.Matrix.
	Align frame.Affine
	// Bridged is true if the face was not seen in this frame and its points are
	// interpolated from the neighbouring frames.
	Bridged bool
}

// Width returns the width of the face in frame pixels: between the ears, along the
// eye line.
func (f *Face) Width() float64 { return dist(f.Points[234], f.Points[454]) }

func dist(a, b Point) float64 { return math.Hypot(a.X-b.X, a.Y-b.Y) }

// pose returns the rotation that takes the mean face to the points: a weighted
// least-squares fit of the points that move little with the expression.
func pose(p []Point) (yaw, pitch, roll float64) {
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
	r := rotation(s)
	// r = Rz·Ry(yaw)·Rx(pitch)
	yaw = math.Asin(min(max(-r[2][0], -1), 1))
	pitch = math.Atan2(r[2][1], r[2][2])
	roll = -math.Atan2(r[1][0], r[0][0])
	return yaw, pitch, roll
}

// rotation returns the proper rotation that maximises trace(R·S) for the
// covariance S (Horn's quaternion method): the eigenvector of the largest
// eigenvalue of a symmetric 4 x 4 matrix, by Jacobi rotations.
func rotation(s [3][3]float64) [3][3]float64 {
	a := [4][4]float64{
		{s[0][0] + s[1][1] + s[2][2], s[1][2] - s[2][1], s[2][0] - s[0][2], s[0][1] - s[1][0]},
		{0, s[0][0] - s[1][1] - s[2][2], s[0][1] + s[1][0], s[2][0] + s[0][2]},
		{0, 0, -s[0][0] + s[1][1] - s[2][2], s[1][2] + s[2][1]},
		{0, 0, 0, -s[0][0] - s[1][1] + s[2][2]},
	}
	v := [4][4]float64{}
	for i := range 4 {
		v[i][i] = 1
		for j := range i {
			a[i][j] = a[j][i]
		}
	}
	for range 12 { // sweeps; it converges in 4 or 5
		for p := range 4 {
			for q := p + 1; q < 4; q++ {
				if a[p][q] == 0 {
					continue
				}
				theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
				t := math.Copysign(1, theta) / (math.Abs(theta) + math.Sqrt(theta*theta+1))
				c := 1 / math.Sqrt(t*t+1)
				sn := t * c
				for k := range 4 {
					a[k][p], a[k][q] = c*a[k][p]-sn*a[k][q], sn*a[k][p]+c*a[k][q]
				}
				for k := range 4 {
					a[p][k], a[q][k] = c*a[p][k]-sn*a[q][k], sn*a[p][k]+c*a[q][k]
				}
				for k := range 4 {
					v[k][p], v[k][q] = c*v[k][p]-sn*v[k][q], sn*v[k][p]+c*v[k][q]
				}
			}
		}
	}
	best := 0
	for i := range 4 {
		if a[i][i] > a[best][best] {
			best = i
		}
	}
	w, x, y, z := v[0][best], v[1][best], v[2][best], v[3][best]
	return [3][3]float64{
		{w*w + x*x - y*y - z*z, 2 * (x*y - w*z), 2 * (x*z + w*y)},
		{2 * (x*y + w*z), w*w - x*x + y*y - z*z, 2 * (y*z - w*x)},
		{2 * (x*z - w*y), 2 * (y*z + w*x), w*w - x*x - y*y + z*z},
	}
}
