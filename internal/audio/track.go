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
	overNoise   = 9.0   // speech is this much above the noise floor
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

	midLow, midHigh float64 // dB: 5th and 95th percentile of the mid band in speech
	f1Low, f1High   float64 // dB: the same of the formant ratios
	f2Low, f2High   float64
	highTop         float64 // dB: 95th percentile of the high band
	f2Mid           float64 // dB: median
	scale, gamma    float64 // of the opening
}

// Finish closes the analysis. The analyzer must not be used afterwards.
func (a *Analyzer) Finish() (*Track, error) {
	if a.samples == 0 {
		return nil, fault.New(fault.Input, "analyse speech", "", "no audio samples", "Give a file with an audio stream that is not empty.")
	}
	for range mfccSize { // so that the last samples get their hops
		a.framer.push(0, a.block)
	}
	t := &Track{hops: a.hops, duration: float64(a.samples) / SampleRate, scale: 1, gamma: 1}
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
	floor := levelDB(percentile(&hist, 0.10))
	if loud-floor < steadyRange {
		floor = min(floor, steadyFloor)
	}
	on := max(floor+overNoise, loud-underSpeech, leastSpeech)
	gate := vadGate{on: on, off: on - hysteresis, onFrames: 2, offFrames: 2}
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

// measure takes the speaker's statistics over the spans of speech.
func (t *Track) measure() {
	var mid, high, f1, f2 [256]int
	for _, s := range t.speech {
		from, to := t.hopRange(s)
		for _, h := range t.hops[from:to] {
			mid[h.mid]++
			high[h.high]++
			f1[h.f1]++
			f2[h.f2]++
		}
	}
	t.midHigh = levelDB(percentile(&mid, 0.95))
	// A stretch without pauses or one steady vowel has hardly a range; 15 dB
	// is the least that is spread over the whole opening.
	t.midLow = min(max(levelDB(percentile(&mid, 0.05)), t.midHigh-35), t.midHigh-15)
	t.highTop = levelDB(percentile(&high, 0.95))
	t.f2Mid = ratioDB(percentile(&f2, 0.5))
	ratios := func(hist *[256]int, least float64) (lo, hi float64) {
		lo, hi = ratioDB(percentile(hist, 0.05)), ratioDB(percentile(hist, 0.95))
		if short := least - (hi - lo); short > 0 {
			lo, hi = lo-short/2, hi+short/2
		}
		return lo, hi
	}
	t.f1Low, t.f1High = ratios(&f1, 15)
	t.f2Low, t.f2High = ratios(&f2, 15)
}

// ramp01 maps lo..hi to 0..1.
func ramp01(v, lo, hi float64) float64 { return max(0, min(1, (v-lo)/(hi-lo))) }

// loudness is the hop's level in the vowels' band, within the speaker's range.
func (t *Track) loudness(h *hop) float64 { return ramp01(levelDB(h.mid), t.midLow, t.midHigh) }

// rawOpen is the opening that a hop asks for by itself: its loudness, shaped
// by how open its sound is after the model and after the first formant.
func (t *Track) rawOpen(h *hop) float64 {
	return t.loudness(h) * (0.2 + 0.4*unit(h.open) + 0.4*ramp01(ratioDB(h.f1), t.f1Low, t.f1High))
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
			sum += k * t.rawOpen(&t.hops[i])
		}
	}
	return max(0, sum/weight)
}

// calibrate sets scale and gamma so that the opening of this recording uses
// its range: two numbers for the whole of it, so that nothing pumps.
func (t *Track) calibrate() {
	var hist [256]int
	for _, s := range t.speech {
		from, to := t.hopRange(s)
		for i := from; i < to; i++ {
			hist[unitByte(t.smoothOpen(float64(i)*hopSec))]++
		}
	}
	high := max(unit(percentile(&hist, 0.95)), 0.05)
	median := max(unit(percentile(&hist, 0.5)), 0.01)
	t.scale = 1 / high
	t.gamma = 1
	if r := median / high; r < 0.98 {
		t.gamma = max(0.6, min(1.6, math.Log(targetMedian/targetHigh)/math.Log(r)))
	}
}

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
	var wide, round, tongue, weight float64
	for i := max(0, c-windowHops); i <= min(len(t.hops)-1, c+windowHops); i++ {
		h := &t.hops[i]
		d := (float64(i)*hopSec - at) / shapeSigma
		k := math.Exp(-d*d/2) * (0.02 + t.loudness(h)) // loud sounds dominate
		weight += k
		front := ramp01(ratioDB(h.f2), t.f2Low, t.f2High)
		// The model and the second formant each see half of it.
		wide += k * (0.5*unit(h.wide) + 0.5*max(0, 2*front-1))
		round += k * (0.5*unit(h.round) + 0.5*max(0, 1-2*front))
		tongue += k * unit(h.tongue)
	}
	weight = max(weight, 1e-9)
	press, bite := t.contactsAt(at)
	open := targetHigh * math.Pow(t.smoothOpen(at)*t.scale, t.gamma)
	return Mouth{
		Open:   float32(speech * min(1, open) * (1 - 0.75*bite)),
		Wide:   float32(speech * min(1, wide/weight*1.6)),
		Round:  float32(speech * min(1, round/weight*1.6)),
		Close:  float32(speech * press),
		Teeth:  float32(speech * bite),
		Tongue: float32(speech * min(1, tongue/weight)),
		Speech: float32(speech),
	}
}

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
