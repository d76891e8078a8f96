package neural

import (
	"fmt"
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/golden"
)

// listener returns features of the tiny Whisper, without a voice.
func listener(t testing.TB, o Options) *features {
	t.Helper()
	config, err := o.recipe.whisper(openPath(t, tinyFiles.Whisper))
	if err != nil {
		t.Fatal(err)
	}
	f := &features{recipe: o.recipe, config: config}
	f.net = networksFor(t, o).add(f.model())
	return f
}

// to returns features of a voice, from the same network.
func (f features) to(voice *audio.Voice, overlap bool) *features {
	f.voice, f.overlap, f.windows = voice, overlap, map[int64][]float32{}
	return &f
}

func (f *features) tokensOf(t testing.TB, frame int64) []float32 {
	t.Helper()
	v, err := f.frame(t.Context(), frame, 25, 1)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTokensGolden compares the tokens of frames with the original's, also across the
// border of Whisper's windows at 30 s, within 1e-4. The features reach 6.8.
func TestTokensGolden(t *testing.T) {
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		whisper := listener(t, tinyOn(t, on))
		check := func(name string, got, want []float32) {
			t.Helper()
			on.Check(t, "Whisper, tokens of a frame", name, got, want, 1e-4)
		}
		f := whisper.to(voice(t, "speech.wav", 1), false)
		if f.voice.MelFrames()/2 != 150 || f.config.Tokens() != 50 {
			t.Errorf("%d features, %d tokens per frame", f.voice.MelFrames()/2, f.config.Tokens())
		}
		chunks := values(t, openGolden(t, "audio/speech.safetensors"), "chunks_selected")
		n := 50 * 64
		var got []float32
		for _, frame := range []int64{0, 1, 2, 3, 30, 40, 50, 73, 74, 75, 76} {
			got = append(got, f.tokensOf(t, frame)...)
		}
		check("3 s", got, chunks)

		f = whisper.to(voice(t, "speech_short.wav", 1), false)
		chunks, got = values(t, openGolden(t, "audio/speech_short.safetensors"), "chunks"), nil
		for frame := range int64(24) {
			got = append(got, f.tokensOf(t, frame)...)
		}
		check("0.9 s, all frames", got, chunks)

		long := openGolden(t, "audio/long.safetensors")
		f = whisper.to(voice(t, "speech.wav", 11), false)
		for name, frame := range map[string]int64{"chunk_749": 749, "chunk_750": 750, "chunk_last": audio.Windows(f.voice.MelFrames()/2) - 1} {
			check("33 s, "+name, f.tokensOf(t, frame), values(t, long, name)[:n])
		}
		for name, first := range map[string]int64{"features_first20": 0, "features_1480_1520": 1480, "features_last20": f.voice.MelFrames()/2 - 20} {
			want := values(t, long, name)
			got = nil
			for k := first; len(got) < len(want); k++ {
				v, err := f.at(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, v...)
			}
			check("33 s, "+name, got, want)
		}
	})
}

// TestWhisperOverlap checks that features jump at the border of the original's windows of
// 30 s, but not with windows that overlap, and that both agree for the first 24 s.
func TestWhisperOverlap(t *testing.T) {
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		whisper := listener(t, tiny(t, b))
		long := voice(t, "speech.wav", 14) // 42 s
		jumps := map[bool][]float64{}      // from each feature to the next, in a range of features
		var before, after float64          // differences until 24.5 s and later
		plain, smooth := whisper.to(long, false), whisper.to(long, true)
		vectors := map[bool][][]float32{}
		const from, to = 1200, 1900
		for _, f := range []*features{plain, smooth} {
			for k := int64(from); k < to; k++ {
				v, err := f.at(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				vectors[f.overlap] = append(vectors[f.overlap], v)
			}
			for i := range vectors[f.overlap][1:] {
				jumps[f.overlap] = append(jumps[f.overlap], distance(vectors[f.overlap][i], vectors[f.overlap][i+1]))
			}
		}
		for i := range vectors[true] {
			d := golden.MaxAbs(vectors[true][i], vectors[false][i])
			if from+i <= 1225 {
				before = max(before, d)
			} else {
				after = max(after, d)
			}
		}
		if before != 0 || after == 0 {
			t.Errorf("windows that overlap differ from the original's by %g until 24.5 s, by %g later", before, after)
		}
		usual := func(jumps []float64) (most float64) { // away from borders
			for i, d := range jumps {
				if k := from + i; k < 1220 || k > 1280 && k < 1490 || k > 1510 {
					most = max(most, d)
				}
			}
			return most
		}
		at30 := jumps[false][1499-from]
		var passage float64
		for k := 1220; k <= 1280; k++ {
			passage = max(passage, jumps[true][k-from])
		}
		t.Logf("from feature to feature: usual at most %.3g, the original at 30 s %.3g; overlapping at 30 s %.3g, within the passage at most %.3g",
			usual(jumps[false]), at30, jumps[true][1499-from], passage)
		if most := usual(jumps[true]); jumps[true][1499-from] > most || passage > most {
			t.Errorf("there is a jump: %g at 30 s, %g in the passage, %g elsewhere", jumps[true][1499-from], passage, most)
		}
	})
}

// distance returns the root mean square difference.
func distance(a, b []float32) float64 {
	var sum float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(a)))
}

// TestFewWindowsAreKept reads the tokens of a voice of three minutes, with and without
// gaps, and then those of the start again.
func TestFewWindowsAreKept(t *testing.T) {
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		f := listener(t, tiny(t, b)).to(voice(t, "speech.wav", 60), true)
		ask := func(seconds float64) {
			f.tokensOf(t, int64(seconds*25))
			if len(f.windows) > 3 {
				t.Fatalf("%d windows are kept at %g s", len(f.windows), seconds)
			}
		}
		for s := 0.0; s < 100; s += 0.5 {
			ask(s)
		}
		for _, s := range []float64{135, 178, 200, 3} {
			ask(s)
		}
		if len(f.windows) > 2 {
			t.Errorf("%d windows are kept", len(f.windows))
		}
	})
}

// TestHush checks that noise without speech is heard as digital silence.
func TestHush(t *testing.T) {
	const from, to = 1.0, 1.5 // of the noise, in seconds
	noise := func(level float32) []float32 {
		out := append([]float32(nil), recording(t, "speech.wav")...)
		seed := uint32(1)
		for i := range out {
			s := float64(i) / audio.SampleRate
			if s < from-0.05 || s > to+0.05 {
				continue
			}
			out[i] = 0
			if s >= from && s < to {
				seed = seed*1664525 + 1013904223
				out[i] = level * (float32(seed>>8)/(1<<23) - 1)
			}
		}
		return out
	}
	speech := func(seconds float64) float64 {
		if seconds > from-0.03 && seconds < to+0.03 { // columns are 25 ms wide
			return 0
		}
		return 1
	}
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		whisper := listener(t, tiny(t, b))
		silent := whisper.to(spool(t, noise(0), 1), true)
		noisy := whisper.to(spool(t, noise(0.02), 1), true)
		hushed := *noisy
		hushed.windows, hushed.speech = map[int64][]float32{}, speech
		var heard, kept float64
		for frame := range int64(75) {
			want := silent.tokensOf(t, frame)
			heard = max(heard, golden.MaxAbs(noisy.tokensOf(t, frame), want))
			kept = max(kept, golden.MaxAbs(hushed.tokensOf(t, frame), want))
		}
		t.Logf("noise changes tokens by %.3g, hushed by %.3g", heard, kept)
		if kept > 0 || heard < 0.1 {
			t.Errorf("noise changes tokens by %g, hushed by %g", heard, kept)
		}
	})
}

// TestFramesOfAnyRate checks that the tokens of a frame depend only on its time.
func TestFramesOfAnyRate(t *testing.T) {
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		f := listener(t, tiny(t, b)).to(voice(t, "speech.wav", 1), true)
		for _, r := range [][4]int64{{50, 1, 60, 30}, {30000, 1001, 60, 50}, {5, 1, 7, 35}} {
			got, err := f.frame(t.Context(), r[2], r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			if d := golden.MaxAbs(got, f.tokensOf(t, r[3])); d != 0 {
				t.Errorf("frame %d at %s per second differs from frame %d at 25 by %g", r[2], fmt.Sprint(r[0], "/", r[1]), r[3], d)
			}
		}
	})
}
