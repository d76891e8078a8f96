// Package face finds faces, follows one of them through the video and maps
// between the frame and the aligned crop on which the engines work.
package face

import "github.com/lipstream/lipstream/internal/frame"

// Point in pixels; Z in the same scale, smaller is nearer to the camera.
type Point struct{ X, Y, Z float64 }

// Face is a face in one frame, after tracking and smoothing.
type Face struct {
	Track  int     // number of the track, 0-based; a new one after each cut or loss
	Points []Point // 478 MediaPipe points in frame pixels
	Score  float64 // presence, 0..1
	Yaw    float64 // head pose in radians, positive to the image's right
	Pitch  float64 // positive down
	Roll   float64 // positive clockwise
	Align  frame.Affine
}
