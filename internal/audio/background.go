package audio

import "math"

// A recording with much background gets its mouth shapes from what is left without it: the
// background is what stays, such as noise and the notes of music, and what is too short
// for a vowel, such as drums. All other recordings are used as they are.
const (
	backReach = 30   // hops: what lasts longer than this in a narrow band is background
	backOver  = 3.0  // the background is taken for this much stronger than its least power
	backLeast = 1e-4 // share of the power that is left at least
	// noisyRange is the range, in dB, between the background's median level and the loud
	// syllables. Clean speech has more than 24.
	noisyRange = 20.0
	// noisySeconds is the least length of a recording whose background is removed: a
	// background cannot be told from a vowel that is held.
	noisySeconds = 2.0

	// The periods that are looked for, in samples: those of 400 to 80 Hz.
	pitchLow, pitchHigh, pitchStep = 40, 200, 2

	pitchFrom, pitchTo  = 3, 96 // bins: 94 to 3000 Hz
	pitchRange          = 12.0  // dB: what is so much softer than the loudest says nothing about the pitch
	pitchMedian         = 0.42  // the least median of a voice whose pitch can be measured
	pitchNone, pitchAll = 0.2, 0.34
	pitchLeast          = 0.1 // how much sounds without pitch count
	toneSome, toneAll   = 0.8, 1.0
	shortHops           = 2 // sounds of up to twice this are dropped
)

// clear is what 10 ms of sound are without the background. Levels and ratios are as in
// hop.
type clear struct {
	mid, high uint8
	f1, f2    uint8
	back      uint8 // level of the background
	pitch     uint8 // how periodic the rest is: 0 to 1.27, in hundredths
}

// background takes the power spectra of consecutive hops and removes what stays.
type background struct {
	ring   [backReach + 1]spectrum // the last ones
	n      int                     // spectra taken
	lowest lowest
	left   [mfccBins]float64 // of the oldest spectrum of the ring
	period [pitchTo - pitchFrom][pitches]float32
}

// pitches is the number of periods that are looked for.
const pitches = (pitchHigh - pitchLow) / pitchStep

// bins has a power for each bin.
type bins [mfccBins]float32

// spectrum is a power spectrum with its smoothed powers, in which noise fluctuates less,
// and the least of these since backReach hops before.
type spectrum struct{ power, smooth, past bins }

// lowest keeps the least powers of the last backReach+1 hops. It divides the hops into
// blocks of that length: such a stretch is the end of one block and the beginning of the
// next, whose least powers need one comparison each for a hop. Comparing whole stretches
// would take a third of the time of listening.
type lowest struct {
	n     int                 // hops taken
	first bins                // the least of the current block so far
	block [backReach + 1]bins // hops of the current block, then, from the next hop on, the least from there to the end of the one before
}

// push adds a hop and returns the least of the last backReach+1 hops in out.
func (l *lowest) push(hop, out *bins) {
	at := l.n % len(l.block)
	if at == 0 {
		for i := len(l.block) - 2; l.n > 0 && i > 0; i-- {
			least(&l.block[i], &l.block[i+1])
		}
		l.first = *hop
	} else {
		least(&l.first, hop)
	}
	*out = l.first
	if at+1 < len(l.block) && l.n >= len(l.block) {
		least(out, &l.block[at+1])
	}
	l.block[at] = *hop
	l.n++
}

func newBackground() *background {
	b := new(background)
	for i := range pitches {
		lag := float64(pitchLow + pitchStep*i)
		window := 1 - 1.2*lag/mfccSize // the window makes the sound less periodic
		for k := range b.period {
			b.period[k][i] = float32(math.Cos(2*math.Pi*float64(k+pitchFrom)*lag/mfccSize) / window)
		}
	}
	return b
}

// push takes the power of the next hop. It returns the hop backReach earlier, if there was
// one.
func (b *background) push(a *analyzer, power *[mfccBins]float64) (c clear, ok bool) {
	before := &b.ring[(b.n+len(b.ring)-1)%len(b.ring)]
	s := &b.ring[b.n%len(b.ring)]
	for k, p := range power {
		s.power[k] = float32(p * a.deemph[k])
	}
	for k := range s.smooth {
		s.smooth[k] = (s.power[max(0, k-1)] + 2*s.power[k] + s.power[min(mfccBins-1, k+1)]) / 4
		if b.n > 0 {
			s.smooth[k] += 0.5 * (before.smooth[k] - s.smooth[k])
		}
	}
	b.lowest.push(&s.smooth, &s.past)
	if b.n++; b.n <= backReach {
		return c, false
	}
	return b.oldest(s), true
}

// oldest returns the oldest hop of the ring, backReach before the last one. What is the
// past of the last one is its future. Before the beginning of the recording there is
// silence, which says nothing.
func (b *background) oldest(last *spectrum) clear {
	m := &b.ring[b.n%len(b.ring)]
	past, future := &m.past, &last.past
	var back float64
	for k := range b.left {
		floor := backOver * float64(max(past[k], future[k]))
		if k >= bandMid.from && k < bandMid.to {
			back += floor
		}
		b.left[k] = max(float64(m.power[k])-floor, backLeast*float64(m.power[k]))
	}
	db := func(of band) float64 {
		sum := 1e-12
		for _, p := range b.left[of.from:of.to] {
			sum += p
		}
		return 10 * math.Log10(sum)
	}
	return clear{
		mid: levelByte(db(bandMid)), high: levelByte(db(bandHigh)),
		f1: ratioByte(db(bandF1High) - db(bandF1Low)), f2: ratioByte(db(bandF2High) - db(bandF2Low)),
		back: levelByte(10 * math.Log10(back+1e-12)), pitch: clampByte(100 * b.pitch()),
	}
}

func least(to, other *bins) {
	for k, v := range other {
		to[k] = min(to[k], v)
	}
}

// pitch returns how periodic the rest is: about 0.2 for noise, 0.35 to 0.7 for vowels, and
// more for tones with few harmonics.
func (b *background) pitch() float64 {
	var sum, best float32
	var left [pitchTo - pitchFrom]float32
	for k := range left {
		left[k] = float32(math.Sqrt(b.left[k+pitchFrom]))
		sum += left[k]
	}
	var r [pitches]float32
	for k := range b.period {
		for i, c := range &b.period[k] {
			r[i] += c * left[k]
		}
	}
	for _, v := range r {
		best = max(best, v)
	}
	return float64(best / max(sum, 1e-6))
}

// noisy reports whether a recording has so much background that it hides the voice. It
// compares the background with the loud syllables, however little of the recording is
// speech. Digital silence says nothing about either.
func noisy(clears []clear, levels []uint8) bool {
	var back, loud [256]int
	heard := 0
	for i, c := range clears {
		if levelDB(levels[i]) > digitalSilence {
			back[c.back]++
			heard++
		}
	}
	if float64(heard)*hopSec < noisySeconds {
		return false
	}
	spans := findSpeech(levels, underSpeech).spans
	if len(spans) == 0 {
		spans = []span{{0, float32(float64(len(levels)) * hopSec)}}
	}
	for _, s := range spans {
		from, to := int(float64(s.from)/hopSec), int(math.Ceil(float64(s.to)/hopSec))
		for _, l := range levels[max(0, from):min(len(levels), to)] {
			loud[l]++
		}
	}
	return levelDB(percentile(&loud, 0.95))-levelDB(percentile(&back, 0.5)) < noisyRange
}

// voiceLevels returns the level of the voice in the vowels' band in each hop. Tones with
// few harmonics are music. Sounds without pitch count less if the voice has one that can
// be measured, which is not so with deep voices. Sounds shorter than a vowel are dropped.
func voiceLevels(clears []clear) []uint8 {
	var mid, pitch [256]int
	for _, c := range clears {
		mid[c.mid]++
	}
	top := levelDB(percentile(&mid, 0.95))
	for _, c := range clears {
		if levelDB(c.mid) > top-pitchRange {
			pitch[c.pitch]++
		}
	}
	pitched := float64(percentile(&pitch, 0.5))/100 >= pitchMedian
	levels := make([]uint8, len(clears))
	for i, c := range clears {
		r := float64(c.pitch) / 100
		share := 1 - ramp01(r, toneSome, toneAll)
		if pitched {
			share *= pitchLeast + (1-pitchLeast)*ramp01(r, pitchNone, pitchAll)
		}
		levels[i] = levelByte(levelDB(c.mid) + 20*math.Log10(max(share, 0.01)))
	}
	return slide(slide(levels, func(a, b uint8) uint8 { return min(a, b) }), func(a, b uint8) uint8 { return max(a, b) })
}

// slide combines each value with its neighbours.
func slide(v []uint8, combine func(a, b uint8) uint8) []uint8 {
	out := make([]uint8, len(v))
	for i := range v {
		out[i] = v[i]
		for _, x := range v[max(0, i-shortHops):min(len(v), i+shortHops+1)] {
			out[i] = combine(out[i], x)
		}
	}
	return out
}
