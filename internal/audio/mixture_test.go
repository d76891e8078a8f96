package audio

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// The mixtures: 2 s without the voice, the voice, 2 s without it. What is mixed in plays
// all the time.
const around = 2.0 // s

// chords synthesises chords of four notes that change every 0.9 s, each with six
// harmonics, and a bass.
func chords(n int) []float64 {
	out := make([]float64, n)
	notes := [][]float64{{220, 261.6, 329.6, 440}, {174.6, 220, 261.6, 349.2}, {196, 246.9, 293.7, 392}, {164.8, 207.7, 246.9, 329.6}}
	for i := range out {
		at := float64(i) / SampleRate
		c := notes[int(at/0.9)%len(notes)]
		into := math.Mod(at, 0.9)
		gain := min(1, into/0.02) * (0.6 + 0.4*math.Exp(-into/0.3))
		for k, f := range append([]float64{c[0] / 2}, c...) {
			for h := 1; h <= 6; h++ {
				out[i] += gain / float64(h) * math.Sin(2*math.Pi*f*float64(h)*at+float64(k*h))
			}
		}
	}
	return out
}

// drums synthesises a beat of 120 a minute: bass drum, snare and hi-hat.
func drums(n int) []float64 {
	out, rng := make([]float64, n), rand.New(rand.NewPCG(1, 2))
	last := 0.0
	for i := range out {
		at := float64(i) / SampleRate
		beat := math.Mod(at, 0.5)
		noise := rng.NormFloat64()
		hiss := noise - last
		last = noise
		out[i] = 0.3 * hiss * math.Exp(-math.Mod(at, 0.25)/0.02)
		if int(at/0.5)%2 == 0 {
			out[i] += 3 * math.Sin(2*math.Pi*(55*beat+8*(1-math.Exp(-beat/0.03)))) * math.Exp(-beat/0.1)
		} else {
			out[i] += (1.2*noise + math.Sin(2*math.Pi*190*beat)) * math.Exp(-beat/0.06)
		}
	}
	return out
}

// pink synthesises noise with as much energy in each octave.
func pink(n int) []float64 {
	out, rng := make([]float64, n), rand.New(rand.NewPCG(3, 4))
	var b [3]float64
	for i := range out { // Paul Kellet's filter
		w := rng.NormFloat64()
		b[0] = 0.99765*b[0] + w*0.0990460
		b[1] = 0.96300*b[1] + w*0.2965164
		b[2] = 0.57000*b[2] + w*1.0526913
		out[i] = b[0] + b[1] + b[2] + w*0.1848
	}
	return out
}

// stranger is the voice a third higher, faster, and begun elsewhere, again and again.
func stranger(voice []float32, n int) []float64 {
	out, faster := make([]float64, n), shifted(voice, 1.26)
	for i := range out {
		out[i] = float64(faster[(i+len(faster)/3)%len(faster)])
	}
	return out
}

func power(x []float64) (sum float64) {
	for _, v := range x {
		sum += v * v
	}
	return sum / float64(len(x))
}

// mixture returns the voice with something else; the voice is louder by snr dB while
// both sound. With +Inf the voice is alone.
func mixture(voice []float32, other func(n int) []float64, snr float64) []float32 {
	lead := int(around * SampleRate)
	out := make([]float32, len(voice)+2*lead)
	copy(out[lead:], voice)
	if other == nil {
		return out
	}
	v := make([]float64, len(voice))
	for i := range v {
		v[i] = float64(voice[i])
	}
	o := other(len(out))
	gain := math.Sqrt(power(v) / power(o[lead:lead+len(voice)]) * math.Pow(10, -snr/10))
	for i := range out {
		out[i] += float32(gain * o[i])
	}
	return out
}

// followed says how well the openness of a mixture follows its voice.
type followed struct {
	correlation float64 // with the openness of the voice alone, at 25 frames a second
	silence     float64 // 95th percentile of the aperture where the voice is silent
	alone       float64 // share of the frames more than 0.3 s before or after the voice that open by more than a tenth
	speaking    float64 // mean aperture in speech, relative to that of the voice alone
}

func follows(t testing.TB, clean *track, mixed []float32) (f followed) {
	t.Helper()
	got := analysed(t, mixed)
	var a, b, quiet []float64
	var open, opened, cleanSum, gotSum float64
	frames := int(float64(len(mixed)) / SampleRate * 25)
	for i := range frames {
		at := FrameTime(int64(i), 25, 1)
		c, g := clean.mouth(at), got.mouth(at)
		a, b = append(a, float64(c.Aperture())), append(b, float64(g.Aperture()))
		if c.Speech == 0 {
			quiet = append(quiet, float64(g.Aperture()))
		}
		if c.Speech > 0.5 {
			cleanSum, gotSum = cleanSum+float64(c.Aperture()), gotSum+float64(g.Aperture())
		}
		if at < around-0.3 || at > float64(len(mixed))/SampleRate-around+0.3 {
			if opened++; g.Aperture() > 0.1 {
				open++
			}
		}
	}
	return followed{correlation(a, b), quantile(quiet, 0.95), open / opened, gotSum / cleanSum}
}

func quantile(v []float64, q float64) float64 {
	var hist [1001]int
	for _, x := range v {
		hist[int(math.Round(1000*x))]++
	}
	left := int(math.Ceil(q * float64(len(v))))
	for i, n := range hist {
		if left -= n; left <= 0 {
			return float64(i) / 1000
		}
	}
	return 1
}

// shifted returns the voice played faster: it is higher as well.
func shifted(voice []float32, by float64) []float32 {
	x := make([]float32, int(float64(len(voice))/by)-1)
	for i := range x {
		at := by * float64(i)
		k := int(at)
		x[i] = float32(float64(voice[k]) + (at-float64(k))*float64(voice[k+1]-voice[k]))
	}
	return x
}

// music synthesises chords and drums, each as loud as the other.
func music(n int) []float64 {
	m, d := chords(n), drums(n)
	pm, pd := math.Sqrt(power(m)), math.Sqrt(power(d))
	for i := range m {
		m[i] = m[i]/pm + d[i]/pd
	}
	return m
}

// TestMixtures measures how well the mouth follows a voice that is not alone. With -v it
// prints the table of docs/voices.md. What has no limits is not solved; it is only
// measured if LIPSTREAM_LONG is set.
func TestMixtures(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	voice := readWAV(t, "speech.wav")
	second := func(n int) []float64 { return stranger(voice, n) }
	for _, c := range []struct {
		name        string
		pitch       float64
		other       func(n int) []float64
		snr         float64
		correlation float64 // at least
	}{
		{"chords", 1, chords, 10, 0.92}, {"chords", 1, chords, 0, 0.86}, {"chords", 1, chords, -10, 0},
		{"drums", 1, drums, 10, 0}, {"drums", 1, drums, 0, 0}, {"drums", 1, drums, -10, 0},
		{"chords and drums", 1, music, 10, 0.92}, {"chords and drums", 1, music, 0, 0.88}, {"chords and drums", 1, music, -10, 0},
		{"noise", 1, pink, 10, 0.94}, {"noise", 1, pink, 0, 0.9}, {"noise", 1, pink, -10, 0.8},
		{"second voice", 1, second, 10, 0}, {"second voice", 1, second, 0, 0}, {"second voice", 1, second, -10, 0},
		{"deep voice, chords and drums", 0.75, music, 10, 0.92}, {"deep voice, chords and drums", 0.75, music, 0, 0.85},
		{"high voice, chords and drums", 1.3, music, 10, 0.92}, {"high voice, chords and drums", 1.3, music, 0, 0.88},
	} {
		v := voice
		if c.pitch != 1 {
			v = shifted(voice, c.pitch)
		}
		if c.correlation == 0 && os.Getenv("LIPSTREAM_LONG") == "" {
			continue
		}
		f := follows(t, analysed(t, mixture(v, nil, 0)), mixture(v, c.other, c.snr))
		t.Logf("| %s | %+.0f dB | %.2f | %.0f %% | %.0f %% | %.2f |", c.name, c.snr, f.correlation, 100*f.silence, 100*f.alone, f.speaking)
		if c.correlation == 0 {
			continue
		}
		if f.correlation < c.correlation || f.silence > 0.02 || f.alone > 0.05 || f.speaking < 0.75 || f.speaking > 1.15 {
			t.Errorf("%s, %+.0f dB: %+v", c.name, c.snr, f)
		}
	}
}

// TestCleanVoices: the mouth shapes of voices without background are those of the sound as
// it is, bit for bit.
func TestCleanVoices(t *testing.T) {
	quiet := map[string][]float32{}
	for _, name := range []string{"speech.wav", "fives.wav", "mama.wav", "see.wav", "who.wav", "ah-ee.wav", "mel.wav"} {
		quiet[name] = readWAV(t, name)
	}
	voice := quiet["speech.wav"]
	quiet["deep"], quiet["high"] = shifted(voice, 0.75), shifted(voice, 1.3)
	quiet["pauses"], quiet["soft noise"] = mixture(voice, nil, 0), mixture(voice, pink, 25)
	for name, samples := range quiet {
		a := newAnalyzer(false)
		a.write(samples)
		levels := slices.Clone(a.levels)
		a.finish()
		if !slices.Equal(a.levels[:len(levels)], levels) {
			t.Errorf("%s: its background was removed", name)
		}
	}
}

// TestRareSpeech: a clean voice is clean however little it speaks, and a noisy one noisy.
func TestRareSpeech(t *testing.T) {
	voice := readWAV(t, "speech.wav")
	const aside = 50 * SampleRate
	rare := func(sound []float32, level float64) []float32 {
		room := pink(2*aside + len(sound))
		scale := math.Sqrt(math.Pow(10, level/10) / power(room))
		x := make([]float32, len(room))
		for i, v := range room {
			x[i] = float32(scale * v)
		}
		for i, v := range sound {
			x[aside+i] += v
		}
		return x
	}
	if tr := analysed(t, voice); math.Abs(tr.speech.seconds()-analysed(t, rare(voice, -200)).speech.seconds()) > 0.02 {
		t.Errorf("%.2f s of speech, but other ones with silence around it", tr.speech.seconds())
	}
	for _, c := range []struct {
		name  string
		sound []float32
		level float64 // of the room, dBFS
		noisy bool
	}{
		{"in digital silence", voice, -200, false},
		{"half a sentence in digital silence", voice[:SampleRate], -200, false},
		{"in a quiet room", voice, -75, false},
		{"in a loud room", voice, -32, true},
	} {
		a := newAnalyzer(false)
		a.write(rare(c.sound, c.level))
		levels := slices.Clone(a.levels)
		a.finish()
		if got := !slices.Equal(a.levels[:len(levels)], levels); got != c.noisy {
			t.Errorf("%s: its background was removed: %v", c.name, got)
		}
	}
}
