package audio

import (
	"math"
	"sort"

	"github.com/lipstream/lipstream/internal/fault"
)

// Timing of the lips against the sound. Lips open before the sound of a
// phrase starts and relax after it has ended.
const (
	anticipation = 0.080 // s
	release      = 0.120 // s
	bridgeGap    = 0.200 // s: pauses shorter than anticipation + release are no silence
	shortest     = 0.040 // s: shorter bursts are clicks, not speech
)

// Levels of the speech gate, dB.
const (
	overNoise   = 6.0   // speech is this much above the noise floor
	underSpeech = 32.0  // and at most this much below the speaker's loud syllables
	leastSpeech = -62.0 // dBFS: no speech below this, whatever the noise floor
	hysteresis  = 4.0
	steadyFloor = -45.0 // dBFS: the highest noise floor believed without a pause to measure it in
	steadyRange = 12.0  // dB between floor and peak: less means that there was no pause
)

// Smoothing.
const (
	// openCutoff is the -6 dB frequency of the opening's low-pass: a
	// Hann-windowed sinc of ±openReach. Syllables (3-6 Hz) pass, what flaps
	// faster than 10 Hz does not.
	openCutoff = 7.5   // Hz
	openReach  = 0.125 // s
	// shapeSigma is the width of the dominance function (after Cohen and
	// Massaro 1993) with which a sound's lip shape spreads to its neighbours.
	shapeSigma = 0.040 // s
	shapeReach = 0.125 // s
	windowHops = 13    // ceil(reach / 10 ms)
)

// What the opening is scaled to, over the speaking time of the whole recording.
const (
	targetHigh   = 0.92 // the 95th percentile
	targetMedian = 0.42
)

// span is a time of speech, s.
type span struct{ from, to float32 }

// Track is an analysed recording: it gives the mouth at any time. It is
// immutable and safe for concurrent use.
type Track struct {
	hops     []hop
	duration float64
	speech   []span // in order, bridged
	contacts []contact

	noiseOn float64 // dB: what opens the speech gate
	mid     scale   // dB in speech, 5th to 95th percentile; so are the following
	f1, f2  scale   // dB, the formant ratios
	open    scale   // the model's opening, bytes
	front   scale   // the model's spreading less rounding, bytes
	tongue  scale   // the model's tongue, bytes
	highTop float64 // dB: 95th percentile of the high band
	f2Mid   float64 // dB: median

	gain, gamma float64 // of the opening
}

// scale is the range of a feature for this speaker, mapped to 0..1.
type scale struct{ low, high float64 }

func (s scale) of(v float64) float64 { return ramp01(v, s.low, s.high) }

// Finish closes the analysis. The analyzer must not be used afterwards.
func (a *Analyzer) Finish() (*Track, error) {
	if a.samples == 0 {
		return nil, fault.Input.New("analyse speech", "no audio samples", "Give a file with an audio stream that is not empty.")
	}
	for range mfccSize { // so that the last samples get their hops
		a.framer.push(0, a.block)
	}
	t := &Track{hops: a.hops, duration: float64(a.samples) / SampleRate, gain: 1, gamma: 1}
	a.hops = nil
	t.findSpeech()
	if len(t.speech) > 0 {
		t.measure()
		t.findContacts()
		t.calibrate()
	}
	return t, nil
}

// Duration is the length of the sound in seconds.
func (t *Track) Duration() float64 { return t.duration }

// SpeechSeconds is the time in which there is speech.
func (t *Track) SpeechSeconds() float64 {
	var sum float64
	for _, s := range t.speech {
		sum += float64(s.to - s.from)
	}
	return sum
}

// findSpeech finds the spans of speech: the gate of the port, with thresholds
// from this recording's noise floor and level, then bridged and cleaned.
func (t *Track) findSpeech() {
	var hist [256]int
	for _, h := range t.hops {
		if levelDB(h.full) > -95 { // digital silence says nothing about the room
			hist[h.full]++
		}
	}
	loud := levelDB(percentile(&hist, 0.95))
	floor := levelDB(percentile(&hist, 0.05))
	if loud-floor < steadyRange {
		floor = min(floor, steadyFloor)
	}
	t.noiseOn = max(floor+overNoise, loud-underSpeech, leastSpeech)
	gate := vadGate{on: t.noiseOn, off: t.noiseOn - hysteresis, onFrames: 2, offFrames: 2}
	var open bool
	for i := range len(t.hops) + 2 {
		db := -200.0
		if i < len(t.hops) {
			db = levelDB(t.hops[i].full)
		}
		was := open
		open = gate.process(db)
		at := float32(float64(i-1) * hopSec) // the gate answers one hop late
		switch {
		case open && !was:
			if n := len(t.speech); n > 0 && at-t.speech[n-1].to < bridgeGap {
				continue // the span goes on
			}
			t.speech = append(t.speech, span{at, at})
		case !open && was:
			t.speech[len(t.speech)-1].to = at
		}
	}
	kept := t.speech[:0]
	for _, s := range t.speech {
		if s.to-s.from >= shortest {
			kept = append(kept, s)
		}
	}
	t.speech = kept
}

// hopRange gives the hops whose middles lie in a span.
func (t *Track) hopRange(s span) (from, to int) {
	return max(0, int(math.Ceil(float64(s.from)/hopSec))), min(len(t.hops), int(float64(s.to)/hopSec)+1)
}

// priorSeconds is the weight of what an average recording has, against what
// this one measures: a short one cannot show the speaker's range. The priors
// are from the five voices of findContacts.
const priorSeconds = 1.5 // s of speech that the prior weighs as much as

// blend pulls a measured value to the prior when there is little speech.
func blend(measured, prior, seconds float64) float64 {
	return (measured*seconds + prior*priorSeconds) / (seconds + priorSeconds)
}

// measure takes the speaker's statistics over the spans of speech.
func (t *Track) measure() {
	var mid, high, f1, f2, open, front, tongue [256]int
	for _, s := range t.speech {
		from, to := t.hopRange(s)
		for _, h := range t.hops[from:to] {
			mid[h.mid]++
			high[h.high]++
			f1[h.f1]++
			f2[h.f2]++
			open[h.open]++
			front[h.front]++
			tongue[h.tongue]++
		}
	}
	top := levelDB(percentile(&mid, 0.95))
	// A stretch without pauses or one steady vowel has hardly a range; 15 dB
	// is the least that is spread over the whole opening.
	t.mid = scale{min(max(levelDB(percentile(&mid, 0.05)), top-35), top-15), top}
	t.highTop = levelDB(percentile(&high, 0.95))
	seconds := t.SpeechSeconds()
	t.f2Mid = blend(ratioDB(percentile(&f2, 0.5)), -1, seconds)
	ranged := func(hist *[256]int, value func(uint8) float64, priorLow, priorHigh float64) scale {
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
	t.f1 = ranged(&f1, ratioDB, -34, 4)
	t.f2 = ranged(&f2, ratioDB, -20, 24)
	t.open = ranged(&open, unit, 0.1, 0.6)
	t.front = ranged(&front, unit, 0.4, 0.75)
	t.tongue = ranged(&tongue, unit, 0.02, 0.5)
}

// ramp01 maps lo..hi to 0..1.
func ramp01(v, lo, hi float64) float64 { return max(0, min(1, (v-lo)/(hi-lo))) }

// loudness is the hop's level in the vowels' band, within the speaker's range.
func (t *Track) loudness(h *hop) float64 { return t.mid.of(levelDB(h.mid)) }

// held is the loudness of hop i with short gaps partly filled from their
// neighbours: the jaw does not shut for the 50 ms of silence of a t or k.
// (What the lips do in m, b and p is added as contacts.)
func (t *Track) held(i int) float64 {
	var before, after uint8
	for k := max(0, i-holdReach); k <= i; k++ {
		before = max(before, t.hops[k].mid)
	}
	for k := i; k <= min(len(t.hops)-1, i+holdReach); k++ {
		after = max(after, t.hops[k].mid)
	}
	return max(t.loudness(&t.hops[i]), holdPart*t.mid.of(levelDB(min(before, after))))
}

const (
	holdReach = 8   // hops: gaps of up to twice this less one are filled
	holdPart  = 0.4 // of the neighbours' loudness
)

// rawOpen is the opening that hop i asks for by itself: its loudness, shaped
// by how open its sound is after the model and after the first formant.
func (t *Track) rawOpen(i int) float64 {
	h := &t.hops[i]
	return t.held(i) * (0.2 + 0.35*t.open.of(unit(h.open)) + 0.45*t.f1.of(ratioDB(h.f1)))
}

// openKernel is the low-pass of the opening at a distance of dt seconds.
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

// smoothOpen is the low-passed opening at time at, not yet scaled. Outside
// the recording and outside speech the mouth asks for nothing.
func (t *Track) smoothOpen(at float64) float64 {
	c := int(math.Round(at / hopSec))
	var sum, weight float64
	for i := c - windowHops; i <= c+windowHops; i++ {
		k := openKernel(float64(i)*hopSec - at)
		weight += k
		if i >= 0 && i < len(t.hops) {
			sum += k * t.rawOpen(i)
		}
	}
	return max(0, sum/weight)
}

// calibrate sets gain and gamma so that the opening of this recording uses
// its range: two numbers for the whole of it, so that nothing pumps.
func (t *Track) calibrate() {
	var hist [256]int
	for _, s := range t.speech {
		from, to := t.hopRange(s)
		for i := from; i < to; i++ {
			hist[unitByte(t.smoothOpen(float64(i)*hopSec))]++
		}
	}
	seconds := t.SpeechSeconds()
	high := max(blend(unit(percentile(&hist, 0.95)), 0.7, seconds), 0.05)
	median := max(blend(unit(percentile(&hist, 0.5)), 0.32, seconds), 0.01)
	t.gain = 1 / high
	t.gamma = 1
	if r := median / high; r < 0.98 {
		t.gamma = max(0.6, min(1.6, math.Log(targetMedian/targetHigh)/math.Log(r)))
	}
}

// Speech tells how much speech there is at a time in seconds, 0 to 1: 0 in
// silence, with flanks around each span of speech.
func (t *Track) Speech(at float64) float64 { return t.speechAt(at) }

// speechAt is the speech envelope: 0 in silence, rising before each span and
// falling after it with raised-cosine flanks.
func (t *Track) speechAt(at float64) float64 {
	i := sort.Search(len(t.speech), func(i int) bool { return float64(t.speech[i].to)+release > at })
	var v float64
	// Two neighbours can both reach this time, when their gap is short.
	for ; i < len(t.speech) && float64(t.speech[i].from)-anticipation < at; i++ {
		s := t.speech[i]
		rise := ramp01(at, float64(s.from)-anticipation, float64(s.from)+0.02)
		fall := ramp01(-at, -float64(s.to)-release, -float64(s.to))
		v = max(v, (1-math.Cos(math.Pi*rise))/2*(1-math.Cos(math.Pi*fall))/2)
	}
	return v
}

// Mouth gives the mouth at a time in seconds. In silence, before the start
// and after the end it is the zero Mouth exactly.
func (t *Track) Mouth(at float64) Mouth {
	speech := t.speechAt(at)
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
		// The model and the second formant each know half of it. What counts as
		// a low second formant depends on the first: the vowel space narrows
		// from i-u down to a, so that an ah is not rounded where an oo is.
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

// shapeCurve turns a co-articulated -1..1 into a shape: the smoothing has
// taken about a third of the extremes, which is given back.
func shapeCurve(v float64) float64 { return max(0, min(1, 1.4*v)) }

// FrameTime is the time for which frame i of a video is drawn: the middle of
// the time that it is shown, in seconds.
func FrameTime(i int64, num, den int) float64 {
	return (float64(i) + 0.5) * float64(den) / float64(num)
}

// Curve gives the mouths of the first frames frames of a video of num/den
// frames per second, at FrameTime.
func (t *Track) Curve(num, den, frames int) []Mouth {
	out := make([]Mouth, frames)
	for i := range out {
		out[i] = t.Mouth(FrameTime(int64(i), num, den))
	}
	return out
}

// Aperture is the relative distance between the lips that the mouth stands
// for, 0..1: what a measurement on the output should find, up to scale.
func (m Mouth) Aperture() float32 { return m.Open * (1 - m.Close) }

// Envelope is a reference for measuring lip sync that knows nothing of
// visemes: the level between 300 and 3000 Hz at a time in seconds, smoothed
// over 50 ms, 0 at the speaker's soft end and below, 1 at the loud end.
func (t *Track) Envelope(at float64) float64 {
	if len(t.speech) == 0 {
		return 0
	}
	const sigma = 0.025 // s
	c := int(math.Round(at / hopSec))
	var sum, weight float64
	for i := c - windowHops; i <= c+windowHops; i++ {
		d := (float64(i)*hopSec - at) / sigma
		k := math.Exp(-d * d / 2)
		weight += k
		if i >= 0 && i < len(t.hops) {
			sum += k * t.loudness(&t.hops[i])
		}
	}
	return sum / weight
}
