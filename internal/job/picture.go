package job

import (
	"image"
	"time"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
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
// if f is nil. tones makes the picture of HDR video.
func newShow(f func(Picture), tones media.ToneMap) func(*frame.Frame) {
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
		tones.Apply(small)
		if fr.Alpha {
			flatten(small, fr, scale)
		}
		f(Picture{Index: fr.Index, Image: small.Image()})
	}
}

// flatten lays a scaled frame over black, as its alpha says.
func flatten(small *frame.RGB, fr *frame.Frame, scale float64) {
	for y := range small.H {
		for x := range small.W {
			a := fr.AlphaAt(int((float64(x)+0.5)*scale), int((float64(y)+0.5)*scale))
			p := small.Pix[3*(y*small.W+x):]
			for c := range 3 {
				p[c] = byte(float32(p[c])*a + 0.5)
			}
		}
	}
}
