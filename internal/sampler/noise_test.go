package sampler

import (
	"math"
	"slices"
	"testing"
)

func TestNoiseIsCUDAs(t *testing.T) {
	for seed, want := range map[int64][]float64{
		// Spec 12.5, published from torch.randn on CUDA.
		0: {-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497},
		// Spec 6.1.
		1247: {2.336634, -0.898381, 0.150174, -1.838668, -0.501788},
	} {
		got := make([]float32, len(want))
		Noise(got, seed, 0, 0)
		var worst float64
		for i := range want {
			worst = max(worst, math.Abs(float64(got[i])-want[i]))
		}
		t.Logf("seed %d: worst difference %.2g", seed, worst)
		if worst > 1e-6 {
			t.Errorf("seed %d: %v, want %v", seed, got, want)
		}
	}
}

// Random123's known answers for Philox4x32-10: counter and key all 0, all 1.
func TestPhilox(t *testing.T) {
	const f = math.MaxUint32
	if a, b := philox(0, 0, 0, 0, 0); a != 0x6627e8d5 || b != 0xe169c58d {
		t.Errorf("zeros: %x %x", a, b)
	}
	if a, b := philox(math.MaxUint64, f, f, f, f); a != 0x408f276d || b != 0x41c83b0e {
		t.Errorf("ones: %x %x", a, b)
	}
	if a, b := philox(0x299f31d0a4093822, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344); a != 0xd16cfe09 || b != 0x94fdcceb {
		t.Errorf("pi: %x %x", a, b)
	}
}

func TestNoiseIsNormal(t *testing.T) {
	const n = 1_000_000
	x := make([]float32, n)
	Noise(x, 42, 3, 0)
	var mean, m2, m3, m4, neighbours float64
	for _, v := range x {
		mean += float64(v) / n
	}
	for i, v := range x {
		d := float64(v) - mean
		m2 += d * d / n
		m3 += d * d * d / n
		m4 += d * d * d * d / n
		if i > 0 {
			neighbours += d * float64(x[i-1]) / n
		}
	}
	skew, kurtosis := m3/math.Pow(m2, 1.5), m4/(m2*m2)
	t.Logf("mean %.4f, variance %.4f, skewness %.4f, kurtosis %.4f, neighbours %.4f", mean, m2, skew, kurtosis, neighbours)
	// Five standard errors: 1, √2, √6, √24 and 1 over √n.
	for _, v := range []float64{mean, (m2 - 1) / math.Sqrt2, skew / math.Sqrt(6), (kurtosis - 3) / math.Sqrt(24), neighbours} {
		if !(math.Abs(v) < 0.005) {
			t.Errorf("%v is too far from a normal distribution", v)
		}
	}
}

func TestNoiseByParts(t *testing.T) {
	const start = 1<<32 - 500 // the index needs its upper half
	whole := make([]float32, 1000)
	Noise(whole, -7, 2, start)
	var parts []float32
	for _, n := range []int{1, 0, 499, 3, 497} {
		p := make([]float32, n)
		Noise(p, -7, 2, start+uint64(len(parts)))
		parts = append(parts, p...)
	}
	if !slices.Equal(parts, whole) {
		t.Error("parts differ from the whole")
	}
	for name, other := range map[string]struct {
		seed   int64
		stream uint32
		first  uint64
	}{"seed": {-6, 2, start}, "seed's upper half": {-7 ^ 1<<40, 2, start}, "stream": {-7, 3, start}, "index's upper half": {-7, 2, start + 1<<32}} {
		p := make([]float32, len(whole))
		Noise(p, other.seed, other.stream, other.first)
		same := 0
		for i := range p {
			if p[i] == whole[i] {
				same++
			}
		}
		if same > 1 {
			t.Errorf("another %s: %d numbers are the same", name, same)
		}
	}
}

// The ends of the range give finite numbers.
func TestNormalAtTheEnds(t *testing.T) {
	for _, a := range []uint32{0, 1, math.MaxUint32 - 1, math.MaxUint32} {
		for _, b := range []uint32{0, 1 << 30, math.MaxUint32} {
			if v := float64(normal(a, b)); !(math.Abs(v) < 6.8) {
				t.Errorf("%x %x: %v", a, b, v)
			}
		}
	}
}

func BenchmarkNoise(b *testing.B) {
	dst := make([]float32, 4*64*64)
	for b.Loop() {
		Noise(dst, 1247, 0, 0)
	}
	b.SetBytes(int64(4 * len(dst)))
}
