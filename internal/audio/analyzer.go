package audio

import (
	"math"
	"slices"
)

const (
	hopSize = 160 // samples: 10 ms
	hopSec  = hopSize / float64(SampleRate)
	// leadIn is the number of zeros before the first sample. With them the middle
	// of hop h's window, after the low-pass's delay, is at h*10 ms (+0.03 ms).
	leadIn = mfccSize/2 - firTaps/2
	// posteriorTemp divides the distances before they become posteriors. The
	// MFCCs of a block are not independent, so the plain Gaussian likelihoods
	// favour one prototype far too much.
	posteriorTemp = 1.5
)

// hop is what mouth shapes are made from in 10 ms of sound: 8 bytes. Levels are
// in half dB over -110 dBFS (levelByte), shapes in 1/255.
type hop struct {
	mid, high uint8 // levels: 300-3000, 3000-7500 Hz
	f1, f2    uint8 // band ratios that follow the first two formants, see bandF1Low
	open      uint8 // the model's opening, without closures
	front     uint8 // the model's spreading minus rounding, -1..1
	lips      uint8 // the model's log odds of m/b/p
	tongue    uint8 // the model's posterior of a visible tongue
}

// band is the range of power bins [from, to).
type band struct{ from, to int }

func hzBand(from, to float64) band {
	return band{int(from / SampleRate * mfccSize), int(math.Ceil(to / SampleRate * mfccSize))}
}

// The bands of the levels and of the two formant ratios. A vowel's first
// formant rises with the jaw's opening (ee, oo: 300 Hz; ah: 750 Hz), its
// second falls with rounding (ee: 2300 Hz; oo: 900 Hz).
var (
	bandFull   = hzBand(100, 7500)
	bandMid    = hzBand(300, 3000)
	bandHigh   = hzBand(3000, 7500)
	bandF1Low  = hzBand(200, 450)
	bandF1High = hzBand(550, 1200)
	bandF2Low  = hzBand(600, 1400)
	bandF2High = hzBand(1700, 3200)
)

// analyzer measures a stream of speech: first write while the sound is decoded,
// then finish. Not safe for concurrent use.
type analyzer struct {
	framer  *framer
	mfcc    *mfcc
	deemph  [mfccBins]float64 // undoes the pre-emphasis in power, and scales full scale to 0 dB
	levels  []uint8           // of each hop, 100-7500 Hz
	samples int64
	back    *background
	clears  []clear // of each hop

	// For mouth shapes only; classifier is nil where nobody needs them.
	classifier *classifier
	shapes     []articulation // of the classifier's prototypes
	feature    [mfccCoeffs]float64
	hops       []hop
}

// newAnalyzer returns an analyzer for mono sound at SampleRate. Without mouths
// it measures only what the speech gate needs.
func newAnalyzer(mouths bool) *analyzer {
	a := &analyzer{framer: newFramer(hopSize), mfcc: newMFCC(), back: newBackground()}
	if mouths {
		a.classifier = newClassifier()
		for _, p := range a.classifier.prototypes {
			a.shapes = append(a.shapes, articulations[p.phoneme])
		}
	}
	// A full-scale sine through a Hamming window sums to 0.5*0.3974*N²/2 per
	// side, /N by the power's definition: that becomes 0 dBFS.
	ref := 0.5 * 0.3974 * mfccSize / 2
	for k := range a.deemph {
		w := 2 * math.Pi * (float64(k) + 0.5) / mfccSize
		h := 1 + preemphasis*preemphasis - 2*preemphasis*math.Cos(w)
		a.deemph[k] = 1 / (h * ref)
	}
	// firDelay is not a whole number; the half sample is 0.03 ms.
	a.framer.write(make([]float64, leadIn), a.block)
	return a
}

// write adds mono samples at SampleRate, full scale ±1. NaN and infinite
// samples count as 0, and samples beyond ±8 are clipped, so that one broken
// sample cannot spoil the levels of the whole recording.
func (a *analyzer) write(samples []float32) {
	a.samples += int64(len(samples))
	var piece [firPiece]float64
	for part := range slices.Chunk(samples, firPiece) {
		for i, s := range part {
			v := float64(s)
			if math.IsNaN(v) || math.IsInf(v, 0) {
				v = 0
			}
			piece[i] = max(-8, min(8, v))
		}
		a.framer.write(piece[:len(part)], a.block)
	}
}

// block analyses one window.
func (a *analyzer) block(b *[mfccSize]float64) {
	a.mfcc.spectrum(b)
	a.levels = append(a.levels, levelByte(a.db(bandFull)))
	if c, ok := a.back.push(a, &a.mfcc.power); ok {
		a.clears = append(a.clears, c)
	}
	if a.classifier != nil {
		a.hops = append(a.hops, a.classify())
	}
}

// db returns the level of a band of the last window.
func (a *analyzer) db(b band) float64 {
	sum := 1e-12
	for k := b.from; k < b.to; k++ {
		sum += a.mfcc.power[k] * a.deemph[k]
	}
	return 10 * math.Log10(sum)
}

// classify returns the hop of the last window.
func (a *analyzer) classify() hop {
	a.mfcc.coefficients(&a.feature)
	c := a.classifier
	c.measure(&a.feature)
	var total, speech float64
	var s struct{ open, front, close, tongue float64 }
	// The original only ranks distances. As Gaussian likelihoods they need the
	// determinant too, or broad prototypes (d, t) win everywhere. Silence is
	// left to the gate.
	least := math.Inf(1)
	for i := range c.distances {
		c.distances[i] += c.prototypes[i].logDet
		if c.prototypes[i].viseme != visemeSil {
			least = min(least, c.distances[i])
		}
	}
	for i, d := range c.distances {
		if c.prototypes[i].viseme == visemeSil || d > least+40*posteriorTemp {
			continue // a likelihood below e^-20
		}
		p := math.Exp((least - d) / (2 * posteriorTemp))
		total += p
		t := &a.shapes[i]
		s.close += p * t.close
		s.tongue += p * t.tongue
		p *= 1 - t.close // the rest is for a mouth that is not closed
		speech += p
		s.open += p * t.open
		s.front += p * (t.wide - t.round)
	}
	speech = max(speech, 1e-9)
	return hop{
		mid: levelByte(a.db(bandMid)), high: levelByte(a.db(bandHigh)),
		f1:   ratioByte(a.db(bandF1High) - a.db(bandF1Low)),
		f2:   ratioByte(a.db(bandF2High) - a.db(bandF2Low)),
		open: unitByte(s.open / speech), front: unitByte(0.5 + 0.5*s.front/speech),
		lips: logOddsByte(s.close / total), tongue: unitByte(s.tongue / total),
	}
}

// Levels are stored in half dB: 0 is at most -110 dBFS, 255 is +17.5 dBFS.
func levelByte(db float64) uint8 { return clampByte(2 * (db + 110)) }
func levelDB(b uint8) float64    { return float64(b)/2 - 110 }

// Ratios are stored in half dB around 0: ±64 dB.
func ratioByte(db float64) uint8 { return clampByte(2*db + 128) }
func ratioDB(b uint8) float64    { return float64(b)/2 - 64 }

// Log odds are stored in eighths around 0: ±16.
func logOddsByte(p float64) uint8 {
	const least = 1e-7
	return clampByte(8*math.Log((p+least)/(1-p+least)) + 128)
}
func logOdds(b uint8) float64 { return float64(b)/8 - 16 }

func unitByte(v float64) uint8 { return clampByte(255 * v) }
func unit(b uint8) float64     { return float64(b) / 255 }

func clampByte(v float64) uint8 { return uint8(max(0, min(255, math.Round(v)))) }

// percentile returns the value below which the fraction q of a histogram lies.
func percentile(hist *[256]int, q float64) uint8 {
	total := 0
	for _, n := range hist {
		total += n
	}
	want := int(math.Ceil(q * float64(total)))
	for v, n := range hist {
		want -= n
		if want <= 0 {
			return uint8(v)
		}
	}
	return 255
}
