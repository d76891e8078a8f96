// Package golden is for tests that compare with outputs of the original
// program: it holds them to their tolerance and, when asked to, notes what they
// measured for docs/exactness.md (see tools/exactness).
package golden

import (
	"encoding/json"
	"math"
	"os"
	"sync"
	"testing"
)

// Variable names the file that Check appends its measurements to, one JSON
// object on a line; without it nothing is written.
const Variable = "LIPSTREAM_EXACTNESS"

// Measurement is one comparison with the original.
type Measurement struct {
	Module    string  `json:"module"`  // "UNet", "VAE decoder"
	Case      string  `json:"case"`    // what of it
	Backend   string  `json:"backend"` // "" where no network runs
	Precision string  `json:"precision,omitempty"`
	Measure   string  `json:"measure"` // "max abs", "max rel", "PSNR dB", "values off by more than 1"
	Value     float64 `json:"value"`
	Limit     float64 `json:"limit"` // Value must not be greater; for PSNR not smaller
}

// PSNR is the Measure that counts upwards.
const PSNR = "PSNR dB"

var writing sync.Mutex

// Check fails the test where m is beyond its limit or no number.
func Check(t testing.TB, m Measurement) {
	t.Helper()
	t.Logf("%s, %s %s %s: %s %.3g (limit %.3g)", m.Module, m.Case, m.Backend, m.Precision, m.Measure, m.Value, m.Limit)
	within := m.Value <= m.Limit
	if m.Measure == PSNR {
		within = m.Value >= m.Limit
	}
	if !within {
		t.Errorf("%s, %s: %s %g, the limit is %g", m.Module, m.Case, m.Measure, m.Value, m.Limit)
	}
	path := os.Getenv(Variable)
	if path == "" {
		return
	}
	line, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	writing.Lock()
	defer writing.Unlock()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

// MaxAbs is the largest absolute difference; infinite where the lengths differ
// or a value is no number.
func MaxAbs(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var most float64
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		most = max(most, d)
	}
	return most
}

// Ratio is the peak signal-to-noise ratio in dB, the peak being the range of
// want.
func Ratio(got, want []float32) float64 {
	if len(got) != len(want) || len(want) == 0 {
		return math.Inf(-1)
	}
	low, high, sum := float64(want[0]), float64(want[0]), 0.0
	for i, w := range want {
		low, high = min(low, float64(w)), max(high, float64(w))
		d := float64(got[i]) - float64(w)
		sum += d * d
	}
	return 10 * math.Log10((high-low)*(high-low)*float64(len(want))/sum)
}
