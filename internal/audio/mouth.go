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
