package audio

import (
	"math"
	"slices"
	"sort"
)

// Timing of the lips relative to the sound. Lips open before the sound of a
// phrase starts and relax after it has ended.
const (
	anticipation = 0.080 // s
	release      = 0.120 // s
	bridgeGap    = 0.200 // s: pauses shorter than anticipation + release are not silence
	shortest     = 0.040 // s: shorter bursts are clicks, not speech
)

// Levels of the speech gate, dB.
const (
	overNoise      = 6.0   // speech is at least this much above the noise floor
	underSpeech    = 32.0  // and at most this much below the speaker's loud syllables
	underNoisy     = 10.0  // the same where the background was removed, of which something always remains
	leastSpeech    = -62.0 // dBFS: no speech below this, whatever the noise floor
	hysteresis     = 4.0
	digitalSilence = -95.0 // dBFS: no microphone is so quiet
	steadyFloor    = -45.0 // dBFS: the highest noise floor assumed if no pause shows it
	steadyRange    = 12.0  // dB between floor and peak: less means that there was no pause
)

// span is a stretch of speech, in seconds.
type span struct{ from, to float32 }

// speech is where a recording has speech.
type speech struct {
	spans []span  // in order; short gaps are bridged
	on    float64 // dB: the level that opens the gate
}

// findSpeech finds the speech in a recording from the levels of its hops. The
// thresholds of the gate follow from the recording's noise floor and loudness; under is
// underSpeech or underNoisy.
func findSpeech(levels []uint8, under float64) (s speech) {
	var hist [256]int
	for _, l := range levels {
		if levelDB(l) > digitalSilence { // which says nothing about the room
			hist[l]++
		}
	}
	loud := levelDB(percentile(&hist, 0.95))
	floor := levelDB(percentile(&hist, 0.05))
	if loud-floor < steadyRange && under == underSpeech {
		floor = min(floor, steadyFloor)
	}
	s.on = max(floor+overNoise, loud-under, leastSpeech)
	gate := vadGate{on: s.on, off: s.on - hysteresis, frames: 2}
	var spans []span
	var open bool
	for i := range len(levels) + 2 {
		db := -200.0
		if i < len(levels) {
			db = levelDB(levels[i])
		}
		was := open
		open = gate.process(db)
		at := float32(float64(i-1) * hopSec) // the gate answers one hop late
		switch {
		case open && !was:
			if n := len(spans); n > 0 && at-spans[n-1].to < bridgeGap {
				continue // the span goes on
			}
			spans = append(spans, span{at, at})
		case !open && was:
			spans[len(spans)-1].to = at
		}
	}
	s.spans = slices.DeleteFunc(spans, func(p span) bool { return p.to-p.from < shortest })
	return s
}

func (s speech) seconds() (sum float64) {
	for _, p := range s.spans {
		sum += float64(p.to - p.from)
	}
	return sum
}

// after returns the first span whose flank has not ended at a time.
func (s speech) after(at float64) int {
	return sort.Search(len(s.spans), func(i int) bool { return float64(s.spans[i].to)+release > at })
}

// at returns the speech envelope: 0 in silence, rising before each span and
// falling after it with raised-cosine flanks.
func (s speech) at(at float64) (v float64) {
	// The flanks of two neighbours overlap if the gap between them is short.
	for i := s.after(at); i < len(s.spans) && float64(s.spans[i].from)-anticipation < at; i++ {
		p := s.spans[i]
		rise := ramp01(at, float64(p.from)-anticipation, float64(p.from)+0.02)
		fall := ramp01(-at, -float64(p.to)-release, -float64(p.to))
		v = max(v, (1-math.Cos(math.Pi*rise))/2*(1-math.Cos(math.Pi*fall))/2)
	}
	return v
}

// quiet reports whether the envelope is 0 between two times.
func (s speech) quiet(from, to float64) bool {
	i := s.after(from)
	return i == len(s.spans) || float64(s.spans[i].from)-anticipation >= to
}

// vadGate is the level gate with hysteresis of modules/vadgate.mjs of
// @met4citizen/headaudio (MIT). The original's thresholds are absolute (-40
// and -50 dB), which a quiet speaker never reaches; findSpeech sets them from
// the recording's own levels.
type vadGate struct {
	on, off float64 // dB: opens above on, closes below off
	frames  int     // how many more blocks must call for a switch than against it, at least 1
	active  bool
	pending int // blocks that called for a switch, minus those against it
}

// process takes the level of the next block and reports whether the gate is
// open.
func (g *vadGate) process(db float64) bool {
	change := db > g.on
	if g.active {
		change = db < g.off
	}
	switch {
	case change:
		if g.pending++; g.pending >= g.frames {
			g.active, g.pending = !g.active, 0
		}
	case g.pending > 0:
		g.pending--
	}
	return g.active
}
