package job

import (
	"image"
	"time"

	"github.com/lipstream/lipstream/internal/frame"
)

// Picture is a finished frame, scaled down.
type Picture struct {
	Index int64       // of the frame in the output
	Image image.Image // at most 640 pixels wide and high
}

const (
	pictureSide  = 640
	pictureEvery = time.Second
)

// newShow returns a function that passes a frame to f at most once a second; nil
// if f is nil.
func newShow(f func(Picture)) func(*frame.Frame) {
	if f == nil {
		return nil
	}
	var last time.Time
	return func(fr *frame.Frame) {
		if time.Since(last) < pictureEvery {
			return
		}
		last = time.Now()
		w, h := fr.Size()
		scale := max(1, float64(max(w, h))/pictureSide)
		small := frame.NewRGB(max(1, int(float64(w)/scale)), max(1, int(float64(h)/scale)))
		// Sample at the center of each pixel: half of the step lies before it.
		fr.Warp(small, frame.Affine{A: scale, C: (scale - 1) / 2, E: scale, F: (scale - 1) / 2}, frame.Replicate, 0)
		f(Picture{Index: fr.Index, Image: small.Image()})
	}
}
