package audio

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// What listening leaves out, or computes in another order, changes no bit of the result.

// TestLowest compares with the least of each whole stretch.
func TestLowest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var l lowest
	var hops []bins
	for n := range 5*(backReach+1) + 7 {
		var hop, got bins
		for k := range hop {
			hop[k] = float32(rng.ExpFloat64())
		}
		hops = append(hops, hop)
		want := hop
		for _, h := range hops[max(0, n-backReach):] {
			for k, v := range h {
				want[k] = min(want[k], v)
			}
		}
		if l.push(&hop, &got); got != want {
			t.Fatalf("hop %d: wrong", n)
		}
	}
}

// TestFramerPieces compares the blocks of a sound with those of its samples one by one,
// and with a plain convolution.
func TestFramerPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	sound := make([]float64, 3*mfccSize+77)
	for i := range sound {
		sound[i] = rng.NormFloat64()
	}
	blocks := func(pieces ...int) (all [][mfccSize]float64) {
		f := newFramer(hopSize)
		for i := 0; len(sound) > i; {
			n := min(pieces[len(all)%len(pieces)], len(sound)-i)
			f.write(sound[i:i+n], func(b *[mfccSize]float64) { all = append(all, *b) })
			i += n
		}
		return all
	}
	want := blocks(1)
	for _, pieces := range [][]int{{2}, {3}, {5, 1, 254}, {firPiece}, {firPiece + 1}, {len(sound)}} {
		if !slices.Equal(blocks(pieces...), want) {
			t.Errorf("pieces of %d samples: other blocks", pieces)
		}
	}
	taps := newFramer(hopSize).taps
	for i := range want[0] {
		var y float64
		for k, tap := range taps {
			if at := i - firTaps + 1 + k; at >= 0 {
				y += tap * sound[at]
				if at > 0 {
					y -= tap * preemphasis * sound[at-1]
				}
			}
		}
		if math.Abs(want[0][i]-y) > 1e-12 {
			t.Fatalf("sample %d: %g, want %g", i, want[0][i], y)
		}
	}
}

// TestLoudest compares the loudest value of a voice with that of all its columns.
func TestLoudest(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	sounds := map[string][]float32{"speech": readWAV(t, "speech.wav"), "nothing": make([]float32, 5000)}
	for _, hz := range []float64{30, 40, 50, 200, 3000, 7990} { // 40 and 200: a bin
		tone := make([]float32, 9000) // that swells
		for i := range tone {
			tone[i] = float32(math.Sin(2*math.Pi*hz*float64(i)/SampleRate) * float64(i) / 9000)
		}
		sounds[fmt.Sprint(hz, " Hz")] = tone
	}
	noise, clicks := make([]float32, 20000), make([]float32, 20000)
	for i := range noise {
		noise[i] = float32(0.3 * rng.NormFloat64())
	}
	for i := 500; i < len(clicks); i += 997 {
		clicks[i] = float32(rng.Float64())
	}
	sounds["noise"], sounds["clicks"] = noise, clicks
	for name, sound := range sounds {
		for _, piece := range []int{160, 1000, len(sound)} {
			s := spooled(t, sound, piece)
			var pcm []int16
			for _, x := range sound {
				pcm = append(pcm, quantise(x))
			}
			var want float64
			m := newMelSpectrum()
			var powers [MelBands]float64
			for k := range s.melFrames() {
				m.column(k, pcm, 0, int64(len(pcm)), &powers)
				want = max(want, slices.Max(powers[:]))
			}
			if s.loudest != want {
				t.Errorf("%s, pieces of %d samples: %g, want %g", name, piece, s.loudest, want)
			}
		}
	}
}
