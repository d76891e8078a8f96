// Package audio analyses speech for the engines: where somebody speaks, mouth
// shapes for the preview engine, and log-mel features for LatentSync.
package audio

// Mouth is the shape of a speaking mouth at one instant. All values are in 0..1
// and already co-articulated (smoothed, without lag).
type Mouth struct {
	Open   float32 // jaw and lips apart: 0 closed, 1 the widest vowel of this speaker; without Close, see Aperture
	Wide   float32 // corners drawn apart (ee, ss): 0 neutral, 1 widest
	Round  float32 // lips rounded and pushed out (oo, w): 0 neutral, 1 most
	Close  float32 // lips pressed together (m, b, p): 1 pressed
	Teeth  float32 // lower lip under the upper teeth (f, v): 1 most
	Tongue float32 // tongue tip visible behind the teeth (th, l, d, n): 1 most
	Speech float32 // 1 while there is speech, 0 in silence
}

// Aperture returns the relative distance between the lips, 0..1: what a
// measurement on the output should find, up to scale.
func (m Mouth) Aperture() float32 { return m.Open * (1 - m.Close) }

// articulation is the static shape of a phoneme, each value in 0..1.
type articulation struct {
	open, wide, round, close, teeth, tongue float64
}

// articulations are the targets by the model's phonemes (IPA; A I O W Y are
// the diphthongs eɪ aɪ oʊ aʊ ɔɪ). The values are set by hand from phonetics:
// opening follows vowel height (ɑ æ > ɛ ʌ > ə ɪ ʊ > i u), spreading vowel
// frontness, rounding the lips' part in u, o, w, ɹ and ʃ. Stops and nasals of
// the tongue leave the jaw slightly open, because the lips take no part.
var articulations = map[string]articulation{
	"ɑ": {open: 1, wide: .15},
	"æ": {open: .9, wide: .45},
	"I": {open: .85, wide: .35},
	"W": {open: .8, round: .35},
	"ʌ": {open: .65, wide: .2},
	"ɔ": {open: .75, round: .5},
	"O": {open: .6, round: .65},
	"Y": {open: .6, round: .4, wide: .1},
	"ɛ": {open: .65, wide: .5},
	"A": {open: .55, wide: .6},
	"ə": {open: .4, wide: .2},
	"ɜ": {open: .4, round: .25},
	"ɪ": {open: .4, wide: .6},
	"i": {open: .28, wide: 1},
	"j": {open: .22, wide: .8},
	"ʊ": {open: .35, round: .6},
	"u": {open: .25, round: 1},
	"w": {open: .15, round: 1},
	"ɹ": {open: .28, round: .45},
	"l": {open: .35, wide: .2, tongue: .8},
	"n": {open: .22, wide: .2, tongue: .6},
	"ŋ": {open: .3, wide: .15},
	"d": {open: .2, wide: .25, tongue: .6},
	"t": {open: .18, wide: .25, tongue: .5},
	"k": {open: .28, wide: .15},
	"ɡ": {open: .28, wide: .15},
	"ð": {open: .22, wide: .2, tongue: 1},
	"θ": {open: .22, wide: .2, tongue: 1},
	"s": {open: .14, wide: .6},
	"z": {open: .14, wide: .55},
	"ʃ": {open: .18, round: .5},
	"ʧ": {open: .18, round: .45},
	"ʤ": {open: .18, round: .4},
	"f": {open: .08, wide: .15, teeth: 1},
	"v": {open: .1, wide: .15, teeth: .9},
	"m": {open: .02, close: 1},
	"b": {open: .02, close: 1},
	"p": {open: .02, close: 1},
}
