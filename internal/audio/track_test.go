package audio

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// analysed returns the track of samples, with mouth shapes.
func analysed(t testing.TB, samples []float32) *track {
	t.Helper()
	a := newAnalyzer(true)
	for piece := range slices.Chunk(samples, 1000) {
		a.write(piece)
	}
	tr := a.finish()
	return &tr
}

// curve returns the mouths of the first frames of a video.
func (t *track) curve(fps, frames int) []Mouth {
	out := make([]Mouth, frames)
	for i := range out {
		out[i] = t.mouth(FrameTime(int64(i), fps, 1))
	}
	return out
}

func correlation(a, b []float64) float64 {
	var ma, mb, ab, aa, bb float64
	for i := range a {
		ma += a[i] / float64(len(a))
		mb += b[i] / float64(len(b))
	}
	for i := range a {
		ab += (a[i] - ma) * (b[i] - mb)
		aa += (a[i] - ma) * (a[i] - ma)
		bb += (b[i] - mb) * (b[i] - mb)
	}
	return ab / math.Sqrt(aa*bb)
}

// checkRange fails on a value that is not in 0..1.
func checkRange(t *testing.T, m Mouth, at float64) {
	t.Helper()
	for _, v := range []float32{m.Open, m.Wide, m.Round, m.Close, m.Teeth, m.Tongue, m.Speech} {
		if !(v >= 0 && v <= 1) {
			t.Fatalf("at %.2f s: %+v", at, m)
		}
	}
}

func TestSilenceIsZero(t *testing.T) {
	tr := analysed(t, readWAV(t, "speech.wav"))
	for at := 2.80; at < 3.44; at += 0.01 { // digital silence is 2.51-3.51 s
		if m := tr.mouth(at); m != (Mouth{}) {
			t.Errorf("at %.2f s: %+v", at, m)
		}
	}
	for _, at := range []float64{-5, -0.2, 6.3, 100, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if m := tr.mouth(at); m != (Mouth{}) {
			t.Errorf("at %v: %+v", at, m)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]float32, 5*SampleRate)
	for i := range noise {
		noise[i] = float32(r.NormFloat64() * 0.00316) // -50 dBFS
	}
	for name, s := range map[string][]float32{"noise at -50 dBFS": noise, "digital silence": make([]float32, SampleRate)} {
		for i, m := range analysed(t, s).curve(25, 125) {
			if m != (Mouth{}) {
				t.Fatalf("%s, frame %d: %+v", name, i, m)
			}
		}
	}
}

func TestOpeningUsesItsRange(t *testing.T) {
	speech := readWAV(t, "speech.wav")
	r := rand.New(rand.NewPCG(3, 4))
	change := func(f func(float32) float32) []float32 {
		out := make([]float32, len(speech))
		for i, s := range speech {
			out[i] = f(s)
		}
		return out
	}
	clean := analysed(t, speech)
	cases := map[string][]float32{
		"as it is":       speech,
		"24 dB softer":   change(func(s float32) float32 { return s / 16 }),
		"clipped":        change(func(s float32) float32 { return max(-1, min(1, 6*s)) }),
		"20 dB of noise": change(func(s float32) float32 { return s + float32(r.NormFloat64()*0.012) }),
	}
	for name, s := range cases {
		tr := analysed(t, s)
		for _, fps := range []int{25, 30, 60} {
			var hist [256]int
			var a, b []float64
			for i, m := range tr.curve(fps, 6*fps) {
				checkRange(t, m, FrameTime(int64(i), fps, 1))
				if m.Speech > 0.9 {
					hist[unitByte(float64(m.Open))]++
				}
				a = append(a, float64(m.Aperture()))
				b = append(b, float64(clean.mouth(FrameTime(int64(i), fps, 1)).Aperture()))
			}
			high, median, same := unit(percentile(&hist, 0.95)), unit(percentile(&hist, 0.5)), correlation(a, b)
			t.Logf("%s, %d fps: 95th percentile %.2f, median %.2f, correlation with the clean curve %.2f", name, fps, high, median, same)
			if high < 0.8 || median < 0.3 || median > 0.5 {
				t.Errorf("%s, %d fps: the opening does not use its range", name, fps)
			}
			if same < 0.8 {
				t.Errorf("%s, %d fps: another curve", name, fps)
			}
		}
	}
}

// The mouth moves with the sound's own loudness: a check that does not use
// visemes, and the lag is 0.
func TestOpeningFollowsTheSound(t *testing.T) {
	tr := analysed(t, readWAV(t, "speech.wav"))
	best, at := -1.0, 0
	var atZero float64
	for lag := -10; lag <= 10; lag++ {
		var a, b []float64
		for i := range 600 {
			a = append(a, float64(tr.mouth(float64(i)*0.01).Aperture()))
			b = append(b, tr.envelope(float64(i+lag)*0.01))
		}
		c := correlation(a, b)
		if lag == 0 {
			atZero = c
		}
		if c > best {
			best, at = c, lag
		}
	}
	t.Logf("aperture and envelope: %.3f at lag 0, best %.3f at %d ms", atZero, best, at*10)
	if atZero < 0.6 || at < -3 || at > 3 {
		t.Error("not in step")
	}
}

// Movement above 10 Hz is flapping.
func TestOpeningDoesNotFlap(t *testing.T) {
	tr := analysed(t, readWAV(t, "speech.wav"))
	const rate, n = 100, 600
	var open [n]float64
	for i := range open {
		open[i] = float64(tr.mouth(float64(i) / rate).Open)
	}
	power := func(from, to float64) (sum float64) {
		for k := 1; k < n/2; k++ {
			f := float64(k) * rate / n
			if f < from || f >= to {
				continue
			}
			var re, im float64
			for i, v := range open {
				s, c := math.Sincos(2 * math.Pi * float64(k*i) / n)
				re, im = re+v*c, im+v*s
			}
			sum += re*re + im*im
		}
		return sum
	}
	syllables, flap := power(1, 8), power(10, 50)
	t.Logf("power above 10 Hz: %.2f %% of that at 1-8 Hz", 100*flap/syllables)
	if flap > 0.02*syllables {
		t.Error("the mouth flaps")
	}
}

// "mama papa baby" by espeak-ng, whose own phoneme times are the truth: m, p,
// p, b, b between vowels start at 0.21, 0.36, 0.60, 0.70 and 1.02 s. The last
// one is missed; see lipThreshold.
func TestLipsClose(t *testing.T) {
	tr := analysed(t, readWAV(t, "mama.wav"))
	for _, fps := range []int{25, 30, 60} {
		curve := tr.curve(fps, fps*5/4)
		for _, want := range []float64{0.23, 0.34, 0.57, 0.73} {
			var most float32
			least := float32(1)
			for i, m := range curve {
				if math.Abs(FrameTime(int64(i), fps, 1)-want) <= 0.04 {
					most = max(most, m.Close)
					least = min(least, m.Aperture())
				}
			}
			if most < 0.75 || least > 0.2 {
				t.Errorf("%d fps, at %.2f s: closure %.2f, aperture %.2f", fps, want, most, least)
			}
		}
	}
	var presses int
	for _, c := range tr.contacts {
		if !c.bite {
			presses++
		}
	}
	if presses < 4 || presses > 6 {
		t.Errorf("%d closures, the phrase has 5 between vowels", presses)
	}
}

// "fifty five fives" has f before i, before t and after v; the clear ones, at
// 0.2 and 0.43 s, must be found.
func TestTeeth(t *testing.T) {
	tr := analysed(t, readWAV(t, "fives.wav"))
	var bites int
	for _, c := range tr.contacts {
		if c.bite {
			bites++
			if m := tr.mouth(float64(c.from+c.to) / 2); m.Teeth < 0.8 {
				t.Errorf("at %.2f s: %+v", c.from, m)
			}
		}
	}
	t.Logf("%d bites", bites)
	if bites < 2 {
		t.Error("f and v are not seen")
	}
}

// mean is the mean shape while the mouth is open, weighted by the opening.
func mean(tr *track, from, to float64) (m Mouth) {
	var n float32
	for at := from; at < to; at += 0.01 {
		v := tr.mouth(at)
		n += v.Open
		m.Open += v.Open * v.Open
		m.Wide += v.Wide * v.Open
		m.Round += v.Round * v.Open
	}
	return Mouth{Open: m.Open / n, Wide: m.Wide / n, Round: m.Round / n}
}

func TestVowelShapes(t *testing.T) {
	who, see := analysed(t, readWAV(t, "who.wav")), analysed(t, readWAV(t, "see.wav"))
	w, s := mean(who, 0, who.duration), mean(see, 0, see.duration)
	if w.Round < 2*w.Wide {
		t.Errorf("who two you: %+v", w)
	}
	if s.Wide < 2*s.Round || s.Wide < 0.3 {
		t.Errorf("see tea bee: %+v", s)
	}
	both := analysed(t, readWAV(t, "ah-ee.wav"))
	ah, ee := mean(both, 0, 0.3), mean(both, 0.35, 0.6)
	t.Logf("who %+v, see %+v, ah %+v, ee %+v", w, s, ah, ee)
	if ah.Open < 1.3*ee.Open || ee.Wide < ah.Wide {
		t.Errorf("ah %+v, ee %+v", ah, ee)
	}
}

func TestOddInput(t *testing.T) {
	speech := readWAV(t, "speech.wav")
	broken := append([]float32(nil), speech...)
	for i := range 200 {
		broken[i*400] = float32(math.NaN())
		broken[i*400+1] = float32(math.Inf(i%2*2 - 1))
		broken[i*400+2] = 1e30
	}
	music := make([]float32, 3*SampleRate)
	for i := range music {
		x := float64(i) / SampleRate
		music[i] = float32(0.2*math.Sin(2*math.Pi*220*x) + 0.2*math.Sin(2*math.Pi*554*x)*math.Abs(math.Sin(9*x)))
	}
	vowel := make([]float32, SampleRate/5)
	copy(vowel, speech[int(1.2*SampleRate):])
	for name, s := range map[string][]float32{"broken": broken, "music": music, "one sample": {0.5}, "0.2 s": vowel} {
		tr := analysed(t, s)
		for at := -0.5; at < tr.duration+0.5; at += 0.003 {
			checkRange(t, tr.mouth(at), at)
			if e := tr.envelope(at); !(e >= -1e-9 && e <= 1+1e-9) {
				t.Fatalf("%s: envelope %v", name, e)
			}
		}
		if name == "0.2 s" {
			if m := tr.mouth(0.1); m.Open < 0.3 {
				t.Errorf("0.2 s of a vowel: %+v", m)
			}
		}
	}
}

// The articulation table covers every phoneme of the embedded model.
func TestArticulationsAreComplete(t *testing.T) {
	for _, p := range newClassifier().prototypes {
		if _, ok := articulations[p.phoneme]; !ok && p.viseme != visemeSil {
			t.Errorf("no articulation of %q", p.phoneme)
		}
	}
	if _, err := parseModel(modelData[:100]); err == nil {
		t.Error("a cut model is accepted")
	}
}

func BenchmarkAnalyze(b *testing.B) {
	s := readWAV(b, "speech.wav")
	a := newAnalyzer(true)
	for b.Loop() {
		a.write(s)
		a.levels, a.hops, a.clears = a.levels[:0], a.hops[:0], a.clears[:0]
	}
	b.ReportMetric(float64(len(s))/SampleRate*float64(b.N)/b.Elapsed().Seconds(), "x-realtime")
}

func BenchmarkCurve(b *testing.B) {
	tr := analysed(b, readWAV(b, "speech.wav"))
	for b.Loop() {
		tr.curve(25, 150)
	}
	b.ReportMetric(6*float64(b.N)/b.Elapsed().Seconds(), "x-realtime")
}
