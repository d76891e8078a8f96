package audio

import (
	"math"
	"slices"
	"sync"

	"gonum.org/v1/gonum/dsp/fourier"
)

// Whisper's front end (docs/spec/latentsync.md 2.1 Log-mel). The checkpoint was trained with exactly
// these, so they are not tunable.
const (
	MelBands = 80  // rows of a log-mel
	MelHop   = 160 // samples between its columns: 100 columns a second

	melSize   = 400 // samples of one column's window; not a power of two
	melReach  = melSize / 2
	melBins   = melSize/2 + 1
	melFloor  = 1e-10 // least power
	melDepth  = 8     // powers of ten kept below the loudest value
	melRange  = 8000.0
	melLinear = 1000.0 // Hz up to which Slaney's scale is linear
)

// slaneyFilters are the triangles of Slaney's mel scale, normalised by their
// area (docs/spec/latentsync.md 2.1 Log-mel).
var slaneyFilters = sync.OnceValue(func() (filters [MelBands]melFilter) {
	mel := func(f float64) float64 {
		if f < melLinear {
			return 3 * f / 200
		}
		return 15 + 27*math.Log(f/melLinear)/math.Log(6.4)
	}
	inv := func(m float64) float64 {
		if m < 15 {
			return 200 * m / 3
		}
		return melLinear * math.Exp((m-15)*math.Log(6.4)/27)
	}
	var corner [MelBands + 2]float64
	for i := range corner {
		corner[i] = inv(mel(melRange) * float64(i) / (MelBands + 1))
	}
	for i := range filters {
		a, b, c := corner[i], corner[i+1], corner[i+2]
		for k := range melBins {
			f := float64(k) * SampleRate / melSize
			w := min((f-a)/(b-a), (c-f)/(c-b)) * 2 / (c - a)
			if w <= 0 {
				continue
			}
			if len(filters[i].weight) == 0 {
				filters[i].start = k
			}
			filters[i].weight = append(filters[i].weight, w)
		}
	}
	return filters
})

// melSpectrum computes single columns of a mel power spectrum, in float64. A
// column depends on its samples alone, whatever was computed before. Not safe
// for concurrent use: it owns its scratch buffers.
type melSpectrum struct {
	fft     *fourier.FFT
	filters [MelBands]melFilter
	window  [melSize]float64 // periodic Hann
	block   [melSize]float64
	bins    [melBins]complex128
	power   [melBins]float64
}

func newMelSpectrum() *melSpectrum {
	m := &melSpectrum{fft: fourier.NewFFT(melSize), filters: slaneyFilters()}
	for i := range m.window {
		m.window[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/melSize)
	}
	return m
}

// melMost returns a mel power that no block of an energy exceeds: that of a block all of
// whose power is in the bin with the largest weight (Parseval), with room for rounding.
func melMost(energy float64) float64 { return melPeak() * melSize * energy * (1 + 1e-9) }

var melPeak = sync.OnceValue(func() (peak float64) {
	for _, f := range slaneyFilters() {
		peak = max(peak, slices.Max(f.weight))
	}
	return peak / 2 // the other half of the power is in the bins above the filters
})

// column computes column k (k ≥ 0) of a voice of total samples, of which pcm
// holds those from sample first on; they must reach from k·MelHop−melReach to
// k·MelHop+melReach−1, with indices beyond the voice's ends mirrored at them.
// The voice must have more than melReach samples.
func (m *melSpectrum) column(k int64, pcm []int16, first, total int64, out *[MelBands]float64) {
	m.cut(k, pcm, first, total)
	m.bands(out)
}

// cut fills the block with the windowed samples of column k, as column does, and returns
// their energy.
func (m *melSpectrum) cut(k int64, pcm []int16, first, total int64) (energy float64) {
	for i := range m.block {
		at := k*MelHop - melReach + int64(i)
		if at < 0 {
			at = -at
		}
		if at >= total {
			at = 2*(total-1) - at
		}
		v := m.window[i] * (float64(pcm[at-first]) / pcmScale)
		m.block[i] = v
		energy += v * v
	}
	return energy
}

// bands computes the mel powers of the block.
func (m *melSpectrum) bands(out *[MelBands]float64) {
	m.fft.Coefficients(m.bins[:], m.block[:])
	for i, c := range m.bins {
		m.power[i] = real(c)*real(c) + imag(c)*imag(c)
	}
	for i := range m.filters {
		out[i] = m.filters[i].of(m.power[:])
	}
}

// logPower returns the decimal logarithm of a power in a log-mel (docs/spec/latentsync.md 2.1).
func logPower(p float64) float64 { return math.Log10(max(p, melFloor)) }

// FeatureRate is the number of Whisper's features per second: one for two columns
// of a log-mel.
const FeatureRate = 50

// FeatureIndices returns the ten of a voice's features (0..features−1) that
// belong to video frame number frame at a constant rate of rateNum/rateDen
// frames a second: four before the frame's time, the one at it and five after,
// with those beyond the ends replaced by the first or last (docs/spec/latentsync.md 2.5 Per-frame window, which
// has 25 frames a second: the frame's feature is 2·frame). Without features
// all are 0. The rate must be positive.
func FeatureIndices(frame, rateNum, rateDen, features int64) [10]int64 {
	at := FeatureAt(frame, rateNum, rateDen)
	var out [10]int64
	for i := range out {
		out[i] = max(0, min(at-4+int64(i), features-1))
	}
	return out
}

// FeatureAt returns the number of the feature at the time of a video frame, at a constant rate
// of rateNum/rateDen frames a second.
func FeatureAt(frame, rateNum, rateDen int64) int64 {
	return frame * FeatureRate * rateDen / rateNum // whole numbers: no rounding
}

// Windows returns the number of frames, at 25 per second, that the original makes
// for a voice with that many features: one or two more than the sound lasts (docs/spec/latentsync.md
// 2.6).
func Windows(features int64) int64 { return features/2 + 2 }
