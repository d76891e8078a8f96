package audio

import "math"

// Smoothing.
const (
	// openCutoff is the -6 dB frequency of the opening's low-pass, a
	// Hann-windowed sinc of ±openReach. Syllables (3-6 Hz) pass; flapping above
	// 10 Hz does not.
	openCutoff = 7.5   // Hz
	openReach  = 0.125 // s
	// shapeSigma is the width of the dominance function (after Cohen and
	// Massaro 1993) with which a sound's lip shape spreads to its neighbours.
	shapeSigma = 0.040 // s
	windowHops = 13    // ceil(openReach / 10 ms)
)

// Targets to which the opening is scaled, over all speech of the recording.
const (
	targetHigh   = 0.92 // the 95th percentile
	targetMedian = 0.42
)

// track is an analysed recording: it knows the mouth at any time. It is
// immutable and safe for concurrent use.
type track struct {
	duration float64 // s
	speech   speech

	// The rest is for mouth shapes and empty where nobody needs them.
	levels   []uint8
	hops     []hop
	contacts []contact

	mid     scale   // dB in speech, 5th to 95th percentile, like the scales below
	f1, f2  scale   // dB, the formant ratios
	open    scale   // the model's opening
	front   scale   // the model's spreading minus rounding
	tongue  scale   // the model's tongue
	highTop float64 // dB: 95th percentile of the high band
	f2Mid   float64 // dB: median

	gain, gamma float64 // of the opening
}

// scale is the range of a feature for this speaker, mapped to 0..1.
type scale struct{ low, high float64 }

func (s scale) of(v float64) float64 { return ramp01(v, s.low, s.high) }

// finish ends the analysis. The analyzer must not be used afterwards.
func (a *analyzer) finish() track {
	a.framer.write(make([]float64, mfccSize), a.block) // so that the last samples get their hops
	hops := len(a.levels)
	for range backReach { // so that the last hops lose their background
		a.block(new([mfccSize]float64))
	}
	a.levels, a.hops = a.levels[:hops], a.hops[:min(hops, len(a.hops))]
	under := underSpeech
	if noisy(a.clears, a.levels) {
		a.clean()
		under = underNoisy
	}
	t := track{duration: float64(a.samples) / SampleRate, speech: findSpeech(a.levels, under)}
	if a.classifier == nil {
		return t
	}
	t.levels, t.hops = a.levels, a.hops
	if len(t.speech.spans) > 0 {
		t.measure()
		t.findContacts()
		t.calibrate()
	}
	return t
}

// clean replaces what was measured by what is left without the background.
func (a *analyzer) clean() {
	a.levels = voiceLevels(a.clears)
	for i, c := range a.clears {
		if a.hops != nil {
			h := &a.hops[i]
			h.mid, h.high, h.f1, h.f2 = a.levels[i], c.high, c.f1, c.f2
		}
	}
}

// hopRange returns the hops whose middles lie in a span.
func (t *track) hopRange(s span) (from, to int) {
	return max(0, int(math.Ceil(float64(s.from)/hopSec))), min(len(t.hops), int(float64(s.to)/hopSec)+1)
}

// priorSeconds is how many seconds of speech the statistics of an average
// recording weigh, because a short recording does not show the speaker's range.
// The average is that of the five voices of findContacts.
const priorSeconds = 1.5

// blend mixes a measured value with the prior.
func blend(measured, prior, seconds float64) float64 {
	return (measured*seconds + prior*priorSeconds) / (seconds + priorSeconds)
}

// histogram counts the values of a feature over the hops of speech.
func (t *track) histogram(feature func(i int) uint8) *[256]int {
	hist := new([256]int)
	for _, s := range t.speech.spans {
		from, to := t.hopRange(s)
		for i := from; i < to; i++ {
			hist[feature(i)]++
		}
	}
	return hist
}

// measure takes the speaker's statistics over the spans of speech.
func (t *track) measure() {
	mid := t.histogram(func(i int) uint8 { return t.hops[i].mid })
	top := levelDB(percentile(mid, 0.95))
	// One steady vowel, or speech without pauses, has hardly any range. At least
	// 15 dB are spread over the whole opening.
	t.mid = scale{min(max(levelDB(percentile(mid, 0.05)), top-35), top-15), top}
	t.highTop = levelDB(percentile(t.histogram(func(i int) uint8 { return t.hops[i].high }), 0.95))
	seconds := t.speech.seconds()
	f2 := func(i int) uint8 { return t.hops[i].f2 }
	t.f2Mid = blend(ratioDB(percentile(t.histogram(f2), 0.5)), -1, seconds)
	ranged := func(feature func(i int) uint8, value func(uint8) float64, priorLow, priorHigh float64) scale {
		hist := t.histogram(feature)
		s := scale{
			blend(value(percentile(hist, 0.05)), priorLow, seconds),
			blend(value(percentile(hist, 0.95)), priorHigh, seconds),
		}
		if least := (priorHigh - priorLow) / 3; s.high-s.low < least {
			middle := (s.low + s.high) / 2
			s = scale{middle - least/2, middle + least/2}
		}
		return s
	}
	t.f1 = ranged(func(i int) uint8 { return t.hops[i].f1 }, ratioDB, -34, 4)
	t.f2 = ranged(f2, ratioDB, -20, 24)
	t.open = ranged(func(i int) uint8 { return t.hops[i].open }, unit, 0.1, 0.6)
	t.front = ranged(func(i int) uint8 { return t.hops[i].front }, unit, 0.4, 0.75)
	t.tongue = ranged(func(i int) uint8 { return t.hops[i].tongue }, unit, 0.02, 0.5)
}

// ramp01 maps lo..hi to 0..1.
func ramp01(v, lo, hi float64) float64 { return max(0, min(1, (v-lo)/(hi-lo))) }

// loudness returns the hop's level in the vowels' band within the speaker's
// range, 0..1.
func (t *track) loudness(h *hop) float64 { return t.mid.of(levelDB(h.mid)) }

// held returns the loudness of hop i with short gaps partly filled from their
// neighbours: the jaw does not close for the 50 ms of silence of a t or k.
// (Closed lips in m, b and p are contacts.)
func (t *track) held(i int) float64 {
	return max(t.loudness(&t.hops[i]), holdPart*t.mid.of(levelDB(t.between(i, holdReach))))
}

const (
	holdReach = 8   // hops: gaps shorter than twice this are filled
	holdPart  = 0.4 // of the neighbours' loudness
)

// rawOpen returns the opening of hop i before smoothing: its loudness, weighted
// by how open its sound is according to the model and to the first formant.
func (t *track) rawOpen(i int) float64 {
	h := &t.hops[i]
	return t.held(i) * (0.2 + 0.35*t.open.of(unit(h.open)) + 0.45*t.f1.of(ratioDB(h.f1)))
}

// openKernel returns the low-pass of the opening at a distance of dt seconds.
func openKernel(dt float64) float64 {
	if dt <= -openReach || dt >= openReach {
		return 0
	}
	w := 0.5 + 0.5*math.Cos(math.Pi*dt/openReach)
	x := 2 * math.Pi * openCutoff * dt
	if math.Abs(x) < 1e-9 {
		return w
	}
	return w * math.Sin(x) / x
}

// smoothOpen returns the low-passed opening at a time, not yet scaled.
func (t *track) smoothOpen(at float64) float64 {
	return max(0, t.smooth(at, openKernel, t.rawOpen))
}

// smooth returns the mean of a value over the hops around a time, weighted by a kernel of
// the distance in seconds. Beyond the recording the value is 0.
func (t *track) smooth(at float64, kernel func(dt float64) float64, value func(i int) float64) float64 {
	c := int(math.Round(at / hopSec))
	var sum, weight float64
	for i := c - windowHops; i <= c+windowHops; i++ {
		k := kernel(float64(i)*hopSec - at)
		weight += k
		if i >= 0 && i < len(t.hops) {
			sum += k * value(i)
		}
	}
	return sum / weight
}

// calibrate sets gain and gamma so that the opening of this recording uses its
// range. They are constant over the whole recording, so that nothing pumps.
func (t *track) calibrate() {
	hist := t.histogram(func(i int) uint8 { return unitByte(t.smoothOpen(float64(i) * hopSec)) })
	seconds := t.speech.seconds()
	high := max(blend(unit(percentile(hist, 0.95)), 0.7, seconds), 0.05)
	median := max(blend(unit(percentile(hist, 0.5)), 0.32, seconds), 0.01)
	t.gain = 1 / high
	t.gamma = 1
	if r := median / high; r < 0.98 {
		t.gamma = max(0.6, min(1.6, math.Log(targetMedian/targetHigh)/math.Log(r)))
	}
}

// mouth implements Voice.Mouth.
func (t *track) mouth(at float64) Mouth {
	speech := t.speech.at(at)
	if speech <= 0 || math.IsNaN(at) {
		return Mouth{}
	}
	c := int(math.Round(at / hopSec))
	var front, tongue, weight float64
	for i := max(0, c-windowHops); i <= min(len(t.hops)-1, c+windowHops); i++ {
		h := &t.hops[i]
		d := (float64(i)*hopSec - at) / shapeSigma
		k := math.Exp(-d*d/2) * (0.02 + t.loudness(h)) // loud sounds dominate
		weight += k
		// The model and the second formant contribute half each. What counts as
		// a low second formant depends on the first: the vowel space narrows
		// from i-u down to a, so that an ah is not taken for a rounded oo.
		f1 := t.f1.of(ratioDB(h.f1))
		f := t.f2.of(ratioDB(h.f2)) + t.front.of(unit(h.front)) - 1.15 + 0.2*f1
		if f < 0 {
			f *= 1 - 0.8*f1*f1
		}
		front += k * f
		tongue += k * t.tongue.of(unit(h.tongue))
	}
	weight = max(weight, 1e-9)
	front /= weight
	press, bite := t.contactsAt(at)
	open := targetHigh * math.Pow(t.smoothOpen(at)*t.gain, t.gamma)
	return Mouth{
		Open:   float32(speech * min(1, open) * (1 - 0.75*bite)),
		Wide:   float32(speech * shapeCurve(front)),
		Round:  float32(speech * shapeCurve(-front)),
		Close:  float32(speech * press),
		Teeth:  float32(speech * bite),
		Tongue: float32(speech * shapeCurve(2*tongue/weight-1)),
		Speech: float32(speech),
	}
}

// shapeCurve turns a co-articulated value, -1..1, into a shape, 0..1. It makes
// up for the smoothing, which takes about a third off the extremes.
func shapeCurve(v float64) float64 { return max(0, min(1, 1.4*v)) }

// FrameTime returns the time in seconds for which frame i of a video with
// num/den frames per second is drawn: the middle of the time that it is shown.
func FrameTime(i int64, num, den int) float64 {
	return (float64(i) + 0.5) * float64(den) / float64(num)
}

// envelope implements Voice.Envelope.
func (t *track) envelope(at float64) float64 {
	if len(t.speech.spans) == 0 {
		return 0
	}
	const sigma = 0.025 // s
	gauss := func(dt float64) float64 {
		d := dt / sigma
		return math.Exp(-d * d / 2)
	}
	return t.smooth(at, gauss, func(i int) float64 { return t.loudness(&t.hops[i]) })
}
