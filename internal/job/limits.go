package job

import (
	"fmt"
	"time"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

// Limits bounds the inputs of a job, for files that are not trusted: a small file can
// contain, or claim to contain, a video of any size. Limits are checked against the
// headers before anything is decoded, and again while decoding, because headers can be
// wrong. 0 means no limit.
type Limits struct {
	Pixels   int64         // of a frame, width times height
	Duration time.Duration // of the video and of the voice
	Frames   int64         // of the output
	Rate     float64       // frames per second of the video
}

const smaller = "make it smaller or shorter, or ask the operator of the server to raise the limit"

func (l Limits) check(i *media.Info) error {
	var cause string
	v := i.Video
	switch {
	case l.Duration > 0 && i.Duration > l.Duration:
		cause = fmt.Sprintf("it is %v long, but at most %v are allowed", i.Duration.Round(time.Second), l.Duration)
	case v == nil:
	case l.Pixels > 0 && int64(v.Width)*int64(v.Height) > l.Pixels:
		cause = fmt.Sprintf("its frames have %dx%d pixels, but at most %d are allowed", v.Width, v.Height, l.Pixels)
	case l.Rate > 0 && v.FrameRate.Float() > l.Rate:
		cause = fmt.Sprintf("it has %.1f frames a second, but at most %g are allowed", v.FrameRate.Float(), l.Rate)
	case l.Frames > 0 && v.Frames > l.Frames:
		return tooMany(i.Path, l.Frames)
	}
	if cause == "" {
		return nil
	}
	return fault.Input.New("read "+i.Path, cause, smaller)
}

func tooMany(path string, most int64) error {
	return fault.Input.New("read "+path, fmt.Sprintf("it has more than %d frames, the most that are allowed", most), smaller)
}

// listener returns a function that counts the samples of a voice and returns an error
// when they are too many.
func (l Limits) listener(path string) func([]float32) error {
	var n int64
	return func(samples []float32) error {
		n += int64(len(samples))
		if l.Duration > 0 && n > int64(l.Duration.Seconds()*audio.SampleRate)+audio.SampleRate {
			return fault.Input.New("listen to "+path, fmt.Sprintf("it is longer than %v, the most that is allowed", l.Duration), smaller)
		}
		return nil
	}
}
