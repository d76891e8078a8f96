package media

import (
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// FrameSize estimates how many bytes a frame takes in a codec. crf is nil for the codec's
// usual quality. Codecs without loss are estimated at half the size of the raw frame, others
// by the size of a talking head in front of a steady background. Actual sizes may differ
// by a factor of two.
func FrameSize(codec string, f frame.Format, crf *int) int64 {
	raw := float64(f.Bytes())
	perPixel, usual := 0.0, 24 // bits at the usual quality
	switch codec {
	case "h264":
		perPixel, usual = 0.12, 18
	case "hevc":
		perPixel, usual = 0.09, 20
	case "vp9", "av1":
		perPixel = 0.08
	case "prores":
		perPixel = 3.5
		if f.ShiftX == 0 {
			perPixel = 5.3
		}
	default: // ffv1
		return int64(raw / 2)
	}
	bits := perPixel * float64(f.Width) * float64(f.Height)
	if crf != nil && codec != "prores" {
		if *crf == 0 {
			return int64(raw / 2)
		}
		bits *= math.Exp2(float64(usual-*crf) / 6) // a rule of thumb for x264
	}
	return int64(min(bits/8, raw))
}
