package models

import (
	"hash/fnv"
	"io"
	"math"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/tensor"
)

// normals makes random weights fast: a table of quantiles of the normal
// distribution, looked up with 16 random bits each.
type normals struct {
	table [1 << 16]float32
	buf   [1 << 18]float32
	out   [1 << 20]byte
}

func newNormals() *normals {
	n := &normals{}
	for i := range n.table {
		p := (float64(i) + 0.5) / float64(len(n.table))
		n.table[i] = float32(math.Sqrt2 * math.Erfinv(2*p-1))
	}
	return n
}

// fill writes the values of a tensor, which depend on its name, its shape and the seed.
// Matrices are normal with variance 1/inputs, so that activations keep their size; norms
// are 1, biases 0, positions as in their formula. wrote is called with the number of
// bytes of every piece; an error from it ends fill.
func (n *normals) fill(w io.Writer, s checkpoint.Spec, seed uint64, wrote func(bytes int) error) error {
	value := n.values(s, seed)
	for at, total := 0, tensor.Volume(s.Shape); at < total; at += len(n.buf) {
		v := n.buf[:min(len(n.buf), total-at)]
		value(v, at)
		b, err := narrow(n.out[:], v, s.DType)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := wrote(len(b)); err != nil {
			return err
		}
	}
	return nil
}

// values returns a function that fills v with the values of a tensor from index at on.
// It must be called for one piece after the other.
func (n *normals) values(s checkpoint.Spec, seed uint64) func(v []float32, at int) {
	width := 0
	if len(s.Shape) > 0 {
		width = s.Shape[len(s.Shape)-1]
	}
	positions := func(position func(pos, channel, channels int) float32) func([]float32, int) {
		return func(v []float32, at int) {
			for i := range v {
				v[i] = position((at+i)/width, (at+i)%width, width)
			}
		}
	}
	switch {
	case strings.HasSuffix(s.Name, ".pos_encoder.pe"):
		return positions(unetPosition)
	case isBuffer(s.Name):
		return positions(whisperPosition)
	case strings.HasSuffix(s.Name, ".bias"):
		return func(v []float32, _ int) { clear(v) }
	case len(s.Shape) <= 1: // the weights of normalisations
		return func(v []float32, _ int) {
			for i := range v {
				v[i] = 1
			}
		}
	}
	scale := float32(1 / math.Sqrt(float64(tensor.Volume(s.Shape[1:]))))
	h := fnv.New64a()
	_, _ = io.WriteString(h, s.Name) // cannot fail
	state := h.Sum64() ^ seed*0x9e3779b97f4a7c15
	return func(v []float32, _ int) {
		// All pieces but the last are multiples of 4.
		for i := 0; i < len(v); i += 4 {
			r := splitmix(&state)
			for j := i; j < min(i+4, len(v)); j++ {
				v[j] = scale * n.table[r&0xffff]
				r >>= 16
			}
		}
	}
}

// splitmix is Vigna's SplitMix64.
func splitmix(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// unetPosition is the temporal encoding (docs/spec/latentsync.md 4.3 Blocks).
func unetPosition(pos, channel, channels int) float32 {
	x := float64(pos) * math.Exp(-float64(channel/2*2)*math.Log(10000)/float64(channels))
	if channel%2 == 0 {
		return float32(math.Sin(x))
	}
	return float32(math.Cos(x))
}

// whisperPosition is the encoding of Whisper's encoder (docs/spec/latentsync.md 2.3 Encoder).
func whisperPosition(pos, channel, channels int) float32 {
	half := channels / 2
	x := float64(pos) * math.Exp(-float64(channel%half)*math.Log(10000)/float64(half-1))
	if channel < half {
		return float32(math.Sin(x))
	}
	return float32(math.Cos(x))
}
