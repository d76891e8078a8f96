package journal

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lipstream/lipstream/internal/tensor"
)

// halves returns numbers like latents, rounded to float16.
func halves(n int) []float32 {
	random := rand.New(rand.NewPCG(1, 2))
	numbers := make([]float32, n)
	for i := range numbers {
		numbers[i] = float32(random.NormFloat64())
	}
	half := make([]byte, 2*n)
	tensor.F32ToF16(half, numbers)
	tensor.F16ToF32(numbers, half)
	return numbers
}

// TestWidths checks that numbers are stored in two bytes exactly if that changes none
// of them, and that all of them are read as they were written.
func TestWidths(t *testing.T) {
	with := func(v float32) []float32 { return append(halves(8), v) }
	for _, c := range []struct {
		name    string
		numbers []float32
		width   int
	}{
		{"none", nil, 2},
		{"rounded", halves(100), 2},
		{"negative zero", with(float32(math.Copysign(0, -1))), 2},
		{"subnormal", with(0x1p-24), 2},
		{"infinite", with(float32(math.Inf(-1))), 2},
		{"largest", with(65504), 2},
		{"too large", with(65536), 4},
		{"too small", with(0x1p-25), 4},
		{"one bit more", with(1 + 0x1p-11), 4},
		{"not a number", with(math.Float32frombits(0x7f800001)), 4},
	} {
		planes, width := split(c.numbers)
		got, err := join(planes, width)
		if err != nil || width != c.width || !same(Record{Latents: got}, Record{Latents: c.numbers}) {
			t.Errorf("%s: width %d, want %d; %v, want %v; %v", c.name, width, c.width, got, c.numbers, err)
		}
	}
}

// TestRecordSize checks that rounded latents take less than two bytes each.
func TestRecordSize(t *testing.T) {
	r := Record{Frames: 16, Fresh: 12, Latents: halves(16 * 4 * 32 * 32)}
	b, _ := r.encode(nil, 0)
	t.Logf("%.2f bytes for each number", float64(len(b))/float64(len(r.Latents)))
	if len(b) >= 2*len(r.Latents) {
		t.Errorf("%d numbers take %d bytes", len(r.Latents), len(b))
	}
}

// TestUnpackedSize checks that a record whose latents unpack to more, or to less, than
// it says is damaged.
func TestUnpackedSize(t *testing.T) {
	b, ends := whole(t)
	for _, latents := range []uint32{0, 1, uint32(len(odd()) + 1), math.MaxUint32} {
		lie := append([]byte(nil), b...)
		order.PutUint32(lie[ends[0]+frameBytes+20:], latents)
		if _, records, err := scanAll(repair(lie)); len(records) != 0 || err == nil {
			t.Errorf("%d latents: %d records, %v", latents, len(records), err)
		}
	}
}
