package audio

import (
	"math"
	"sort"
)

// contact is a moment in which the lips touch each other (m, b, p) or the
// teeth (f, v). 20 bytes; speech has about two per second.
type contact struct {
	from, to float32 // s: the time of full contact
	strength float32 // 0..1
	bite     bool    // lower lip under the teeth
}

// The hiss of f and v: as loud as or louder above 3 kHz than below, but far
// weaker than an s, and longer than the burst of a stop. Measured on the five
// voices: f and v are 20 to 25 dB below the s in the high band and 22 to 29 dB
// below the vowels in the middle one.
const (
	biteLeastHops = 6     // 60 ms
	biteTilt      = -6.0  // dB, high less mid, at least
	biteHighest   = -13.0 // dB to the speaker's loudest hiss
	biteLowest    = -28.0
	biteStrength  = 0.85
	// The loudest hiss of the five voices is 5 to 18 dB below their loudest
	// vowels in the middle band.
	hissUnderVowel = 12.0
)

const (
	contactFlank = 0.055 // s: closing and opening take this long
	contactLeast = 0.044 // s: least time of full contact, so that a frame at 25 fps cannot miss it
	dipReach     = 12    // hops each side in which a dip's shoulders are looked for
	dipDepth     = 5.0   // dB below both shoulders
	dipLongest   = 22    // hops: longer is a pause, in which nothing is pressed
	dipShoulder  = 25.0  // dB: shoulders must be within this of the speaker's level
)

// findContacts finds dips in the vowels' band between louder neighbours, which
// every oral closure and constriction causes, and decides for each whether the
// lips made it.
//
// The decision is a logistic score whose weights were fitted to 281 dips of
// five synthetic voices with known phoneme times (flite slt, rms, awb;
// espeak-ng en-us male and female) and rounded. Leaving one voice out, the
// area under the ROC curve was 0.67, 0.87, 0.80, 0.82 and 0.60. The features
// are the model's log odds; the high frequencies, which lip closures lack, while
// t, k and s have a burst or hiss; and the second formant, which lips lower.
func (t *track) findContacts() {
	for _, s := range t.speech.spans {
		from, to := t.hopRange(s)
		for i := from; i < to; {
			if t.dip(i) < dipDepth {
				i++
				continue
			}
			j := i
			for j < to && t.dip(j) >= dipDepth {
				j++
			}
			t.judgeDip(i, j)
			i = j
		}
	}
}

// between returns the lower of the loudest levels in the vowels' band up to reach hops
// before and after hop i, which counts on both sides.
func (t *track) between(i, reach int) uint8 {
	var before, after uint8
	for _, h := range t.hops[max(0, i-reach) : i+1] {
		before = max(before, h.mid)
	}
	for _, h := range t.hops[i:min(len(t.hops), i+reach+1)] {
		after = max(after, h.mid)
	}
	return min(before, after)
}

// dip returns how far, in dB, hop i lies below the lower of its two shoulders.
func (t *track) dip(i int) float64 {
	s := levelDB(t.between(i, dipReach))
	if s < t.mid.high-dipShoulder {
		return 0
	}
	return s - levelDB(t.hops[i].mid)
}

// judgeDip adds a contact for the dip of hops [from, to) if the lips made it.
func (t *track) judgeDip(from, to int) {
	low := from // the quietest hop
	var high, f2 float64
	for i := from; i < to; i++ {
		h := &t.hops[i]
		if h.mid < t.hops[low].mid {
			low = i
		}
		high += levelDB(h.high)
		f2 += ratioDB(h.f2)
	}
	n := float64(to - from)
	var lips, seen float64
	for i := max(0, low-3); i < min(len(t.hops), low+4); i++ {
		lips += logOdds(t.hops[i].lips)
		seen++
	}
	score := lipScore(lips/seen, high/n-t.highTop, f2/n-t.f2Mid)
	if first, last, ok := t.biteIn(from, to); ok {
		t.addContact(first, last, biteStrength, true)
		return
	}
	if score < lipThreshold || to-from > dipLongest {
		return
	}
	// The dip's flanks are the movement, its bottom is the contact.
	bottom := levelDB(t.hops[low].mid) + 3
	a, b := low, low
	for a > from && levelDB(t.hops[a-1].mid) <= bottom {
		a--
	}
	for b < to-1 && levelDB(t.hops[b+1].mid) <= bottom {
		b++
	}
	t.addContact(a, b, min(1, 0.85+0.1*(score-lipThreshold)), false)
}

// addContact adds a contact over the hops first to last.
func (t *track) addContact(first, last int, strength float64, bite bool) {
	c := contact{from: float32(float64(first) * hopSec), to: float32(float64(last) * hopSec), strength: float32(strength), bite: bite}
	if short := contactLeast - (c.to - c.from); short > 0 {
		c.from -= short / 2
		c.to += short / 2
	}
	t.contacts = append(t.contacts, c)
}

// biteIn returns the longest stretch of an f or v within the dip of hops
// [from, to), or none.
func (t *track) biteIn(from, to int) (first, last int, ok bool) {
	// This is where an s would be, even if the phrase has none.
	top := max(t.highTop, t.mid.high-hissUnderVowel)
	start := from
	for i := from; i < to; i++ {
		h := &t.hops[i]
		high := levelDB(h.high)
		hiss := high-top >= biteLowest && high-top <= biteHighest &&
			high-levelDB(h.mid) >= biteTilt && levelDB(t.levels[i]) > t.speech.on-hysteresis
		if !hiss {
			start = i + 1
			continue
		}
		if i-start >= biteLeastHops-1 && (!ok || i-start > last-first) {
			first, last, ok = start, i, true
		}
	}
	return first, last, ok
}

// lipThreshold finds 55 % of the lips' dips and 17 % of the others. A missed
// closure in "mama" looks worse than a needless one.
const lipThreshold = -0.8

// lipScore returns the logistic score of a dip. lips is the model's log odds. high
// is the level above 3 kHz, relative to the speaker's 95th percentile, and f2 that
// of the second formant, relative to the speaker's median, both in dB.
func lipScore(lips, high, f2 float64) float64 {
	return 1.07*lips - 0.044*high - 0.058*f2 + 0.45
}

// contactsAt returns the closure and the bite at a time in seconds.
func (t *track) contactsAt(at float64) (press, bite float64) {
	// Contacts are in order and hardly overlap; one second back is plenty.
	i := sort.Search(len(t.contacts), func(i int) bool { return float64(t.contacts[i].to) > at-1 })
	for ; i < len(t.contacts) && float64(t.contacts[i].from) < at+contactFlank; i++ {
		c := &t.contacts[i]
		away := max(0, float64(c.from)-at, at-float64(c.to))
		if away >= contactFlank {
			continue
		}
		v := float64(c.strength) * (1 + math.Cos(math.Pi*away/contactFlank)) / 2
		if c.bite {
			bite = max(bite, v)
		} else {
			press = max(press, v)
		}
	}
	return press, bite
}
