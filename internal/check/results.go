package check

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"github.com/lipstream/lipstream/internal/tensor"
)

// resultsJSON holds the results of the cases in f32 on a CPU. TestResults -update writes
// it.
//
//go:embed results.json
var resultsJSON []byte

// stored is a stored result.
type stored struct {
	Len    int    `json:"len"`    // numbers in the result
	Sample []byte `json:"sample"` // of the numbers: float32, little-endian, in base64
}

// results returns the stored results by the names of the cases.
var results = sync.OnceValues(func() (map[string]stored, error) {
	var m map[string]stored
	return m, json.Unmarshal(resultsJSON, &m)
})

// samples is how many numbers of a result are stored.
const samples = 512

// sample returns some of the numbers: one of each of equally long stretches, so that
// they lie in all parts of the result, in all rows and columns.
func sample(v []float32) []float32 {
	n := min(len(v), samples)
	s := make([]float32, n)
	for i := range s {
		from, to := i*len(v)/n, (i+1)*len(v)/n
		s[i] = v[from+int(uint32(i)*2654435761>>8)%(to-from)]
	}
	return s
}

// values returns the stored numbers.
func (s stored) values() []float32 {
	t := tensor.New(tensor.F32, len(s.Sample)/4)
	copy(t.Data, s.Sample)
	return t.F32()
}

// bestPSNR is the PSNR of equal results, which JSON cannot write as infinite.
const bestPSNR = 200

// compare returns the largest difference between a result and the stored one, and the
// PSNR. A result of another length or with infinite numbers is an error.
func (s stored) compare(got []float32) (difference, psnr float64, err error) {
	if len(got) != s.Len {
		return 0, 0, fmt.Errorf("the result has %d numbers instead of %d", len(got), s.Len)
	}
	if i := tensor.NotFinite(got); i >= 0 {
		return 0, 0, fmt.Errorf("number %d of %d of the result is %v", i+1, len(got), got[i])
	}
	want, got := s.values(), sample(got)
	low, high, sum := math.Inf(1), math.Inf(-1), 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		difference, sum = max(difference, d), sum+d*d
		low, high = min(low, float64(w)), max(high, float64(w))
	}
	rmse := math.Sqrt(sum / float64(len(want)))
	return difference, min(bestPSNR, 20*math.Log10((high-low)/rmse)), nil
}
