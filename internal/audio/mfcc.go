package audio

import "math"

// Front-end constants of npm @met4citizen/headaudio 0.1.0,
// modules/parameters.mjs. The embedded model was trained with exactly these,
// so they are not tunable.
const (
	SampleRate = 16000 // AUDIO_SAMPLE_RATE, Hz

	preemphasis = 0.97 // AUDIO_PREEMPHASIS_ALPHA
	firTaps     = 32   // AUDIO_DOWNSAMPLE_FILTER_N
	firCutoff   = 0.45 // processor.mjs designPolyphaseFilter, of the sample rate
	mfccSize    = 512  // MFCC_SAMPLES_N, samples: 32 ms
	mfccBins    = mfccSize / 2
	mfccCoeffs  = 12   // MFCC_COEFF_N, without c0
	melBands    = 40   // MFCC_MEL_BANDS_N
	melLowHz    = 30   // mfcc.mjs _buildMelFilterbank
	melHighHz   = 7800 // mfcc.mjs _buildMelFilterbank
	lifterLen   = 22   // MFCC_LIFTER
	logFloor    = 1e-10
)

// melFilter is one triangle of the mel filter bank: weights from bin start on.
type melFilter struct {
	start  int
	weight []float64
}

// of returns the weighted sum of the powers under the triangle.
func (f *melFilter) of(power []float64) (sum float64) {
	for k, p := range power[f.start : f.start+len(f.weight)] {
		sum += p * f.weight[k]
	}
	return sum
}

// mfcc computes mel-frequency cepstral coefficients. It is a port of
// modules/mfcc.mjs of @met4citizen/headaudio (MIT, Mika Suominen) in float64
// where the original stores float32; the results agree within 1e-3 (see the
// golden test). Not safe for concurrent use: it owns its scratch buffers.
type mfcc struct {
	window  [mfccSize]float64 // Hamming
	twiddle [mfccBins]complex128
	bitrev  [mfccSize]uint16
	filters [melBands]melFilter
	dct     [mfccCoeffs][melBands]float64 // liftered rows 1..12

	spec  [mfccSize]complex128
	power [mfccBins]float64 // |X|²/N of the last block
	mel   [melBands]float64
}

// newMFCC builds the tables. The original can stretch the mel scale by the
// speaker's pitch (speakerMeanHz); the default of 150 Hz means no stretch,
// and only that is ported.
func newMFCC() *mfcc {
	m := &mfcc{}
	for i := range m.window {
		m.window[i] = 0.54 - 0.46*math.Cos(2*math.Pi*float64(i)/(mfccSize-1))
	}
	for i := range m.twiddle {
		s, c := math.Sincos(-2 * math.Pi * float64(i) / mfccSize)
		m.twiddle[i] = complex(c, s)
	}
	for i := range m.bitrev {
		j := 0
		for k := 0; k < 9; k++ { // 2^9 = 512
			j = j<<1 | i>>k&1
		}
		m.bitrev[i] = uint16(j)
	}
	m.buildFilters()
	m.buildDCT()
	return m
}

// buildFilters makes the triangles. Their corners are whole bins, from Hz
// values rounded to float32 as in the original, because floor() of a value
// close to an integer decides the shape.
func (m *mfcc) buildFilters() {
	mel := func(f float64) float64 { return 2595 * math.Log10(1+f/700) }
	inv := func(m float64) float64 { return 700 * (math.Pow(10, m/2595) - 1) }
	low, high := mel(melLowHz), mel(melHighHz)
	var bin [melBands + 2]int
	for i := range bin {
		hz := float32(inv(low + (high-low)/(melBands+1)*float64(i)))
		bin[i] = int(math.Floor(float64(hz) / SampleRate * mfccSize))
	}
	for i := range m.filters {
		a, b, c := bin[i], bin[i+1], bin[i+2]
		w := make([]float64, c-a)
		for k := a; k < b; k++ {
			w[k-a] = float64(k-a) / float64(b-a)
		}
		for k := b; k < c; k++ {
			w[k-a] = float64(c-k) / float64(c-b)
		}
		m.filters[i] = melFilter{start: a, weight: w}
	}
}

// buildDCT folds the lifter into the DCT-II rows; c0 (the level) is left out.
func (m *mfcc) buildDCT() {
	scale := math.Sqrt(2.0 / melBands)
	for i := range m.dct {
		n := float64(i + 1)
		lift := 1 + lifterLen/2*math.Sin(math.Pi*n/lifterLen)
		for j := range m.dct[i] {
			m.dct[i][j] = lift * scale * math.Cos(math.Pi*n*(float64(j)+0.5)/melBands)
		}
	}
}

// transform is the in-place radix-2 FFT of the windowed block into m.spec.
func (m *mfcc) transform(block *[mfccSize]float64) {
	x := &m.spec
	for i, j := range m.bitrev {
		x[j] = complex(block[i]*m.window[i], 0)
	}
	// The first stage needs no twiddles.
	for j := 0; j < mfccSize; j += 2 {
		a, b := x[j], x[j+1]
		x[j], x[j+1] = a+b, a-b
	}
	for half := 2; half < mfccSize; half <<= 1 {
		stride := mfccBins / half
		for base := 0; base < mfccSize; base += half << 1 {
			lo := x[base : base+half]
			hi := x[base+half : base+half<<1]
			hi = hi[:len(lo)]
			for k := range lo {
				t := m.twiddle[k*stride&(mfccBins-1)]
				h := hi[k]
				v := complex(real(h)*real(t)-imag(h)*imag(t), real(h)*imag(t)+imag(h)*real(t))
				hi[k] = lo[k] - v
				lo[k] += v
			}
		}
	}
}

// spectrum fills m.power with the power spectrum of a block.
func (m *mfcc) spectrum(block *[mfccSize]float64) {
	m.transform(block)
	for k := range m.power {
		re, im := real(m.spec[k]), imag(m.spec[k])
		m.power[k] = (re*re + im*im) / mfccSize
	}
}

// coefficients computes the 12 coefficients of the last spectrum, compressed by
// tanh as in processor.mjs (MFCC_COMPRESSION_TANH_R = 1).
func (m *mfcc) coefficients(out *[mfccCoeffs]float64) {
	for i := range m.filters {
		m.mel[i] = math.Log10(m.filters[i].of(m.power[:]) + logFloor)
	}
	for i := range out {
		var sum float64
		for j, e := range &m.mel {
			sum += e * m.dct[i][j]
		}
		out[i] = math.Tanh(sum)
	}
}

// framer cuts a stream of samples into pre-emphasised, low-passed blocks, as
// processor.mjs does when its input is already at 16 kHz: the polyphase
// resampler then stays at phase 0 and is a plain 32-tap low-pass (7.2 kHz,
// group delay 15.5 samples).
type framer struct {
	prev  float64                         // last raw sample, for the pre-emphasis
	taps  [firTaps]float64                // for the oldest sample first
	hist  [firTaps - 1 + firPiece]float64 // pre-emphasised samples: the last ones, then a piece
	block [mfccSize]float64               // filled up to n
	n     int
	hop   int // samples between blocks
}

// firPiece is the number of samples that are filtered together.
const firPiece = 256

// firDelay is the group delay of the framer's low-pass in samples.
const firDelay = (firTaps - 1) / 2.0

func newFramer(hop int) *framer {
	f := &framer{hop: hop}
	for i := range f.taps {
		x := float64(i) - firDelay // never 0: 32 taps have no middle one
		w := 0.54 - 0.46*math.Cos(2*math.Pi*float64(i)/(firTaps-1))
		f.taps[i] = float64(float32(w * math.Sin(2*math.Pi*firCutoff*x) / (math.Pi * x)))
	}
	return f
}

// write adds samples and calls full with each completed block; the block is only valid
// during the call.
func (f *framer) write(samples []float64, full func(*[mfccSize]float64)) {
	for len(samples) > 0 {
		n := min(firPiece, len(samples))
		for i, s := range samples[:n] {
			f.hist[firTaps-1+i] = s - preemphasis*f.prev
			f.prev = s
		}
		samples = samples[n:]
		i := 0
		// Four sums at a time: each addition of one has to wait for the one before.
		for ; i+4 <= n; i += 4 {
			h := (*[firTaps + 3]float64)(f.hist[i:])
			var a, b, c, d float64
			for k, t := range f.taps {
				a += h[k] * t
				b += h[k+1] * t
				c += h[k+2] * t
				d += h[k+3] * t
			}
			f.add(a, full)
			f.add(b, full)
			f.add(c, full)
			f.add(d, full)
		}
		for ; i < n; i++ {
			var y float64
			for k, t := range f.taps {
				y += f.hist[i+k] * t
			}
			f.add(y, full)
		}
		copy(f.hist[:firTaps-1], f.hist[n:n+firTaps-1])
	}
}

// add adds a filtered sample.
func (f *framer) add(y float64, full func(*[mfccSize]float64)) {
	f.block[f.n] = y
	f.n++
	if f.n == mfccSize {
		full(&f.block)
		copy(f.block[:], f.block[f.hop:])
		f.n = mfccSize - f.hop
	}
}
