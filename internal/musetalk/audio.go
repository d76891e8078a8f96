package musetalk

import (
	"math"

	"github.com/lipstream/lipstream/internal/audio"
)

// Voice features are Whisper's: audio.FeatureRate per second, each [5, d], the states of the
// layers. A frame's tokens, [50, d], are ten consecutive features.
const (
	windowFeatures = 10
	silence        = -1 // index of a feature of zeros
)

// Window holds the indices of the ten features of a frame; silence stands for zeros.
type Window [windowFeatures]int64

// FrameWindow returns the window of a frame at rateNum/rateDen frames per second, of a voice
// with that many features: four features before the frame's time, the one at it, and five
// after. It equals the original's at 25 frames per second, and does not drift at any rate
// (docs/spec/musetalk.md, section 8, row 4).
func FrameWindow(frame, rateNum, rateDen, features int64) Window {
	return windowAt(audio.FeatureAt(frame, rateNum, rateDen)-4, features)
}

func windowAt(first, features int64) (w Window) {
	for i := range w {
		w[i] = first + int64(i)
		if w[i] < 0 || w[i] >= features {
			w[i] = silence
		}
	}
	return w
}

// OriginalFrames returns how many frames the original makes of a voice of that many samples at
// audio.SampleRate, and how many features it keeps (docs/spec/musetalk.md, sections 3.3 and
// 3.4).
func OriginalFrames(samples int64, rate float64) (frames, features int64) {
	seconds := float64(samples) / audio.SampleRate
	return int64(seconds * math.Trunc(rate)), int64(seconds * audio.FeatureRate)
}

// Tokens returns the tokens of a window, [10·states, d], without the position code: row
// states·k+s is state s of feature k. feature returns feature i, [states, d]; size is
// states·d.
func (w Window) Tokens(size int, feature func(i int64) ([]float32, error)) ([]float32, error) {
	out := make([]float32, windowFeatures*size)
	for k, i := range w {
		if i == silence {
			continue
		}
		v, err := feature(i)
		if err != nil {
			return nil, err
		}
		copy(out[k*size:(k+1)*size], v)
	}
	return out, nil
}

// Positions returns the position code of n tokens, [n, d], which is added to them, also to those
// of zeros (docs/spec/musetalk.md, section 3.5).
func Positions(n, d int) []float32 {
	code := make([]float32, n*d)
	for i := range code {
		t, j := i/d, i%d
		sin, cos := math.Sincos(float64(t) * math.Pow(10000, -float64(j&^1)/float64(d)))
		if j&1 == 0 {
			code[i] = float32(sin)
		} else {
			code[i] = float32(cos)
		}
	}
	return code
}
