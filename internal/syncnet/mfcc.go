package syncnet

import "math"

// The defaults of python_speech_features.mfcc at 16 kHz.
const (
	coefficients = 13
	window       = 400 // samples, 25 ms, rectangular
	hop          = 160 // samples, 10 ms
	transform    = 512 // samples, padded with zeros
	bins         = transform/2 + 1
	filters      = 26
	preemphasis  = 0.97
	lifter       = 22
	epsilon      = 0x1p-52 // takes the place of an energy of 0
)

// column holds the coefficients of one window.
type column [coefficients]float32

// mfcc computes the coefficients of a sound that arrives in pieces, as
// python_speech_features 0.6 does for a whole sound. It has no column for a last
// window that the sound does not fill.
type mfcc struct {
	samples []float64 // after pre-emphasis, from the next window on
	last    float64   // the last sample before pre-emphasis
}

// write adds samples and returns the columns that they complete.
func (m *mfcc) write(sound []int16) (out []column) {
	for _, s := range sound {
		m.samples = append(m.samples, float64(s)-preemphasis*m.last)
		m.last = float64(s)
	}
	for len(m.samples) >= window {
		out = append(out, cepstrum(m.samples[:window]))
		m.samples = append(m.samples[:0], m.samples[hop:]...)
	}
	return out
}

// cepstrum returns the liftered cepstrum of a window. The first coefficient is the
// logarithm of the energy instead.
func cepstrum(samples []float64) (out column) {
	var power [bins]float64
	var energy float64
	for k := range power {
		var re, im float64
		for i, s := range samples {
			w := &circle[i*k%transform]
			re, im = re+s*w[0], im+s*w[1]
		}
		power[k] = (re*re + im*im) / transform
		energy += power[k]
	}
	var c [coefficients]float64
	for j, triangle := range bank {
		var sum float64
		for k, w := range triangle {
			sum += w * power[k]
		}
		level := math.Log(positive(sum))
		for n := range c {
			c[n] += level * cosines[n][j]
		}
	}
	c[0] = math.Log(positive(energy))
	for n := range c {
		out[n] = float32(c[n])
	}
	return out
}

func positive(energy float64) float64 {
	if energy == 0 {
		return epsilon
	}
	return energy
}

// circle holds the cosines and sines of the discrete Fourier transform, bank the mel
// filters, and cosines the orthonormal DCT-II with the lifter.
var circle, bank, cosines = tables()

func tables() (circle [transform][2]float64, bank [filters][bins]float64, cosines [coefficients][filters]float64) {
	for i := range circle {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / transform)
		circle[i] = [2]float64{cos, sin}
	}
	const nyquist = sampleRate / 2
	step := 2595 * math.Log10(1+nyquist/700.0) / (filters + 1)
	var corner [filters + 2]int
	for i := range corner {
		hz := 700 * (math.Pow(10, float64(i)*step/2595) - 1)
		corner[i] = int((transform + 1) * hz / sampleRate)
	}
	for j := range bank {
		low, middle, high := corner[j], corner[j+1], corner[j+2]
		for i := low; i < middle; i++ {
			bank[j][i] = float64(i-low) / float64(middle-low)
		}
		for i := middle; i < high; i++ {
			bank[j][i] = float64(high-i) / float64(high-middle)
		}
	}
	for n := range cosines {
		scale := math.Sqrt(2.0/filters) * (1 + lifter/2*math.Sin(math.Pi*float64(n)/lifter))
		for j := range cosines[n] {
			cosines[n][j] = scale * math.Cos(math.Pi*float64(n)*(float64(j)+0.5)/filters)
		}
	}
	return circle, bank, cosines
}
