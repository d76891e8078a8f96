package audio

import (
	_ "embed" // the model
	"encoding/binary"
	"fmt"
	"math"
)

// viseme is one of the 15 mouth shapes of the Oculus set, in the numbering of
// the embedded model.
type viseme uint8

const visemeSil viseme = 14 // silence

const visemeCount = 15

//go:embed model/model-en-mixed.bin
var modelData []byte

const (
	sigmaLen       = mfccCoeffs * (mfccCoeffs + 1) / 2
	recordHeader   = 8                                        // bytes
	recordLen      = recordHeader + 4*mfccCoeffs + 4*sigmaLen // bytes, RECORD_OFFSET in parameters.mjs
	silSensitivity = 1.2                                      // classifier.mjs default: silence's distance is divided by it
)

// prototype is one phoneme's Gaussian. sigmaInv is the lower triangle of the
// inverse covariance by rows, with the off-diagonal elements doubled so that
// the quadratic form needs one multiplication per element.
type prototype struct {
	phoneme  string // IPA, or a misaki letter for a diphthong (A eɪ, I aɪ, O oʊ, W aʊ, Y ɔɪ)
	viseme   viseme
	mu       [mfccCoeffs]float64
	sigmaInv [sigmaLen]float64
	logDet   float64 // natural log of the covariance's determinant
}

// parseModel decodes a model: records of a big-endian header (two UTF-16
// units of the phoneme, reserved byte, group, reserved byte, viseme) and
// little-endian float32 mean and inverse covariance (training.mjs
// decodeBinaryRecord).
func parseModel(data []byte) ([]prototype, error) {
	if len(data) == 0 || len(data)%recordLen != 0 {
		return nil, fmt.Errorf("viseme model has %d bytes, not a multiple of %d", len(data), recordLen)
	}
	var ps []prototype
	for ; len(data) > 0; data = data[recordLen:] {
		p := prototype{viseme: viseme(data[7])}
		if p.viseme >= visemeCount {
			return nil, fmt.Errorf("viseme model: record %d names viseme %d of %d", len(ps), p.viseme, visemeCount)
		}
		p.phoneme = string(rune(binary.BigEndian.Uint16(data)))
		if c := binary.BigEndian.Uint16(data[2:]); c != 0 {
			p.phoneme += string(rune(c))
		}
		f := func(i int) float64 {
			return float64(math.Float32frombits(binary.LittleEndian.Uint32(data[recordHeader+4*i:])))
		}
		for i := range p.mu {
			p.mu[i] = f(i)
		}
		var full [mfccCoeffs][mfccCoeffs]float64
		k := 0
		for i := range mfccCoeffs {
			for j := 0; j <= i; j++ {
				p.sigmaInv[k] = f(mfccCoeffs + k)
				full[i][j] = p.sigmaInv[k]
				if j < i {
					p.sigmaInv[k] *= 2
				}
				k++
			}
		}
		p.logDet = -logDeterminant(full)
		ps = append(ps, p)
	}
	return ps, nil
}

// logDeterminant returns the logarithm of the determinant of a positive definite
// matrix, given by its lower triangle, by a Cholesky decomposition.
func logDeterminant(m [mfccCoeffs][mfccCoeffs]float64) float64 {
	var sum float64
	for i := range m {
		for j := 0; j <= i; j++ {
			v := m[i][j]
			for k := range j {
				v -= m[i][k] * m[j][k]
			}
			if i == j {
				sum += math.Log(v)
				m[i][i] = math.Sqrt(v)
			} else {
				m[i][j] = v / m[j][j]
			}
		}
	}
	return sum
}

// distance returns the squared Mahalanobis distance of v from the prototype.
func (p *prototype) distance(v *[mfccCoeffs]float64) float64 {
	var diff [mfccCoeffs]float64
	for i := range diff {
		diff[i] = v[i] - p.mu[i]
	}
	var d float64
	s := p.sigmaInv[:]
	for i := range diff {
		var sum float64
		for j, w := range s[:i+1] {
			sum += w * diff[j]
		}
		s = s[i+1:]
		d += sum * diff[i]
	}
	return d
}

// classifier is the nearest-prototype classifier of modules/classifier.mjs.
type classifier struct {
	prototypes []prototype
	distances  []float64 // of the last vector, silence's already divided
}

func newClassifier() *classifier {
	ps, err := parseModel(modelData)
	if err != nil {
		panic(err) // the embedded model is part of the program and covered by tests
	}
	return &classifier{prototypes: ps, distances: make([]float64, len(ps))}
}

// measure fills c.distances and returns the index of the nearest prototype (the
// last one on a tie, as in the original).
func (c *classifier) measure(v *[mfccCoeffs]float64) int {
	best := 0
	least := math.Inf(1)
	for i := range c.prototypes {
		p := &c.prototypes[i]
		d := p.distance(v)
		if p.viseme == visemeSil {
			d /= silSensitivity
		}
		c.distances[i] = d
		if d <= least {
			best, least = i, d
		}
	}
	return best
}
