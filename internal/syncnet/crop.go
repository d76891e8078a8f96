package syncnet

import (
	"slices"

	"github.com/lipstream/lipstream/internal/frame"
)

const (
	cropSide  = 224
	cropScale = 0.40 // by how much of the box's half side the crop is wider
	padding   = 110  // grey outside of the frame
	smoothing = 13   // frames of the median filter
)

// Box is the place of a face in a frame: its centre and half the longer side of its box.
type Box struct{ X, Y, Half float64 }

// Smooth filters the boxes of successive frames by their median over 13 frames, as
// scipy.signal.medfilt does: beyond the ends are zeros.
func Smooth(boxes []Box) []Box {
	out := make([]Box, len(boxes))
	for i := range boxes {
		var x, y, half [smoothing]float64
		for k := range smoothing {
			if at := i + k - smoothing/2; at >= 0 && at < len(boxes) {
				x[k], y[k], half[k] = boxes[at].X, boxes[at].Y, boxes[at].Half
			}
		}
		out[i] = Box{median(x), median(y), median(half)}
	}
	return out
}

func median(v [smoothing]float64) float64 {
	slices.Sort(v[:])
	return v[smoothing/2]
}

// Crop returns the face of 224 x 224 pixels: the box, wider by 0.4 of its half side to the left
// and right, and by 0.8 below.
func Crop(f frame.Source, b Box) *frame.RGB {
	// The original pads the frame and truncates positions in the padded frame.
	pad := int(b.Half * (1 + 2*cropScale))
	x, y := b.X+float64(pad), b.Y+float64(pad)
	left, right := int(x-b.Half*(1+cropScale)), int(x+b.Half*(1+cropScale))
	top, bottom := int(y-b.Half), int(y+b.Half*(1+2*cropScale))
	cut := frame.NewRGB(max(right-left, 1), max(bottom-top, 1))
	f.Warp(cut, frame.Affine{A: 1, C: float64(left - pad), E: 1, F: float64(top - pad)}, frame.Constant, padding)
	// OpenCV's bilinear resize, which does not filter first.
	sx, sy := float64(cut.W)/cropSide, float64(cut.H)/cropSide
	out := frame.NewRGB(cropSide, cropSide)
	cut.Warp(out, frame.Affine{A: sx, C: (sx - 1) / 2, E: sy, F: (sy - 1) / 2}, frame.Replicate, 0)
	return out
}
