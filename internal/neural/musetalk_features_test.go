package neural

import (
	"fmt"
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/lip"
)

// museTalkTokens computes the tokens of a frame that is shown at num/den seconds, from ten
// features and the position code (docs/spec/musetalk.md, sections 3.4 and 3.5).
func museTalkTokens(t testing.TB, f *features, num, den int64) []float32 {
	t.Helper()
	var out []float32
	for k := num*50/den - 4; k <= num*50/den+5; k++ {
		v := make([]float32, f.config.Features()*f.config.State)
		if k >= 0 && k < f.voice.MelFrames()/2 {
			var err error
			if v, err = f.at(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, v...)
	}
	d := f.config.State
	for i := range out {
		angle := float64(i/d) / math.Pow(10000, float64(i%d/2*2)/float64(d))
		if i%2 == 0 {
			out[i] += float32(math.Sin(angle))
		} else {
			out[i] += float32(math.Cos(angle))
		}
	}
	return out
}

// TestMuseTalkRates checks that a frame hears the voice at its time at any rate, also after a
// minute, where the original would be up to 3 s away.
func TestMuseTalkRates(t *testing.T) {
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		f := listener(t, quickMuseTalk(t, b)).to(voice(t, "speech.wav", 21), true)
		seconds := int64(f.voice.Duration())
		for _, r := range [][2]int64{{24, 1}, {25, 1}, {30000, 1001}, {30, 1}, {50, 1}, {24000, 1001}, {15, 1}, {60, 1}} {
			last := seconds * r[0] / r[1]
			for _, frame := range []int64{0, 1, 2, 7, last / 2, last - 1, last} {
				got, err := f.frame(t.Context(), frame, r[0], r[1])
				if err != nil {
					t.Fatal(err)
				}
				if d := golden.MaxAbs(got, museTalkTokens(t, f, frame*r[1], r[0])); !(d <= 1e-5) {
					t.Errorf("frame %d at %d/%d per second: tokens differ by %g from those at its time", frame, r[0], r[1], d)
				}
			}
		}
	})
}

// TestMuseTalkShortVoice runs jobs whose voice is shorter than a frame, or than the ten
// features of one. The original ends with an error there.
func TestMuseTalkShortVoice(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		speech := recording(t, "speech.wav")
		for _, samples := range []int{1, 100, 639, 700, 1280} {
			t.Run(fmt.Sprint(samples, " samples"), func(t *testing.T) {
				o := quickMuseTalk(t, b)
				o.Voice = spool(t, speech[8000:8000+samples], 1)
				if got, want := (museTalk{}).frames(o.Voice), int64(samples*25/audio.SampleRate); got != want {
					t.Errorf("the original makes %d frames, want %d", got, want)
				}
				f := listener(t, o).to(o.Voice, true)
				features := o.Voice.MelFrames() / 2
				for _, frame := range []int64{0, 1, 4} {
					got := f.tokensOf(t, frame)
					if d := golden.MaxAbs(got, museTalkTokens(t, f, frame, 25)); !(d <= 1e-5) {
						t.Errorf("%d features, frame %d: tokens differ by %g", features, frame, d)
					}
				}
				if silent := museTalkTokens(t, f, 100, 1); golden.MaxAbs(f.tokensOf(t, 4), silent) > 1e-5 != (features > 4) {
					t.Errorf("%d features: frame 4 is silent: %v", features, features <= 4)
				}
				if samples > 1 && samples < 1280 {
					return
				}
				items := shotOf(picture, fc, 0, 2, 0)
				process(t, open(t, o), items)
				for i, it := range shotOf(picture, fc, 0, 2, 0) {
					if most, _ := apart(items[i:i+1], []lip.Item{it}); most < 10 {
						t.Errorf("frame %d is hardly changed: %d", i, most)
					}
				}
			})
		}
	})
}
