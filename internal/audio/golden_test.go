package audio

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// readWAV reads a 16 kHz mono 16-bit file of testdata.
func readWAV(t testing.TB, name string) []float32 {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for p := 12; p+8 <= len(data); {
		n := int(binary.LittleEndian.Uint32(data[p+4:]))
		switch string(data[p : p+4]) {
		case "fmt ":
			if r, c := binary.LittleEndian.Uint32(data[p+12:]), data[p+10]; r != SampleRate || c != 1 {
				t.Fatalf("%s: %d Hz, %d channels", name, r, c)
			}
		case "data":
			data = data[p+8 : p+8+n]
			out := make([]float32, n/2)
			for i := range out {
				out[i] = float32(int16(binary.LittleEndian.Uint16(data[2*i:]))) / 32768
			}
			return out
		}
		p += 8 + n
	}
	t.Fatalf("%s has no data", name)
	return nil
}

// voter is what the original does with the classifier's answers for a stream:
// the most frequent viseme of the last six blocks, the highest number on a tie
// (classifier.mjs). The analyzer mixes by posterior instead.
type voter struct {
	last [6]viseme
	next int
}

func newVoter() *voter {
	v := &voter{}
	for i := range v.last {
		v.last[i] = visemeSil
	}
	return v
}

func (v *voter) vote(nearest viseme) (winner viseme) {
	v.last[v.next] = nearest
	v.next = (v.next + 1) % len(v.last)
	var counts [visemeCount]int
	for _, l := range v.last {
		counts[l]++
	}
	for i, n := range counts {
		if n >= counts[winner] {
			winner = viseme(i)
		}
	}
	return winner
}

// The golden file was written by tools/viseme-golden with the original
// JavaScript. It stores float32 where the port has float64, so coefficients
// (tanh: ±1) may differ by 1e-3 and distances by 1 %; in digital silence all
// is exact.
func TestPortAgreesWithOriginal(t *testing.T) {
	var g struct {
		Hop, Blocks, Every int
		Visemes            []viseme
		Active             []int
		LE                 []float64
		MFCC               [][mfccCoeffs]float64
		Distances          [][]float64
	}
	data, err := os.ReadFile("testdata/viseme.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	m, c, votes := newMFCC(), newClassifier(), newVoter()
	gate := vadGate{on: -40, off: -50, frames: 1} // the original's defaults
	f := newFramer(g.Hop)
	var v [mfccCoeffs]float64
	var n, visemes, active int
	var worstLE, worstMFCC, worstDist float64
	for _, s := range readWAV(t, "speech.wav") {
		f.write([]float64{float64(s)}, func(b *[mfccSize]float64) {
			m.spectrum(b)
			var total float64
			for _, p := range m.power {
				total += p
			}
			le := math.Log10(total + logFloor)
			m.coefficients(&v)
			if votes.vote(c.prototypes[c.measure(&v)].viseme) != g.Visemes[n] {
				visemes++
			}
			if gate.process(10*le) != (g.Active[n] == 1) {
				active++
			}
			if n%g.Every == 0 {
				i := n / g.Every
				worstLE = max(worstLE, math.Abs(le-g.LE[i]))
				for j := range v {
					worstMFCC = max(worstMFCC, math.Abs(v[j]-g.MFCC[i][j]))
				}
				for j, d := range c.distances {
					want := g.Distances[i][j]
					worstDist = max(worstDist, math.Abs(d-want)/max(1, math.Abs(want)))
				}
			}
			n++
		})
	}
	t.Logf("%d blocks: worst difference log energy %.2g, MFCC %.2g, distance %.2g relative; %d visemes, %d gate states differ", n, worstLE, worstMFCC, worstDist, visemes, active)
	if n != g.Blocks {
		t.Errorf("%d blocks, original has %d", n, g.Blocks)
	}
	if worstLE > 1e-4 || worstMFCC > 1e-3 || worstDist > 1e-2 {
		t.Error("differs by more than rounding")
	}
	if visemes > 0 || active > 0 {
		t.Error("decisions differ")
	}
}
