// Package golden is for tests that compare with outputs of the original program. It checks
// their tolerances and can record the measured values for docs/exactness.md (see
// tools/exactness).
package golden

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"sync"
	"testing"
)

// Variable is the environment variable with the file to which Check appends its
// measurements, one JSON object per line. Without it, Check writes nothing.
const Variable = "LIPSTREAM_EXACTNESS"

// Recording reports whether the measurements are recorded, so that none may be left out.
func Recording() bool { return os.Getenv(Variable) != "" }

// Measurement is one comparison with the original.
type Measurement struct {
	Module    string  `json:"module"`  // "UNet", "VAE decoder"
	Case      string  `json:"case"`    // what is compared
	Backend   string  `json:"backend"` // "" if no network runs
	Precision string  `json:"precision,omitempty"`
	Measure   string  `json:"measure"` // "max abs", "max rel", "PSNR dB", "values off by more than 1"
	Value     float64 `json:"value"`
	Limit     float64 `json:"limit"` // Value must not be greater; for PSNR not smaller
}

// PSNR is the Measure of which more is better.
const PSNR = "PSNR dB"

var writing sync.Mutex

// Check fails the test if m is beyond its limit or NaN.
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
	if !Recording() {
		return
	}
	writing.Lock()
	defer writing.Unlock()
	f, err := os.OpenFile(os.Getenv(Variable), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		err = errors.Join(json.NewEncoder(f).Encode(m), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ReadJSON decodes the JSON file at path into v, or ends the test.
func ReadJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// MaxAbs returns the largest absolute difference, or infinity if the lengths differ or a
// value is NaN.
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

// Ratio returns the peak signal-to-noise ratio in dB, with the range of want as the peak.
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

// Anchors106 returns the anchors by which LatentSync 1.5 and 1.6 align a face,
// from InsightFace's 106 points (docs/spec/latentsync.md 3): the points, then the
// means of eyes and nose, each rounded half to even.
func Anchors106(points [][2]float64) (anchors [3][2]float64) {
	for i, group := range [][]int{{43, 48, 49, 51, 50}, {101, 102, 103, 104, 105}, {74, 77, 83, 86}} {
		for _, k := range group {
			for c := range 2 {
				anchors[i][c] += math.RoundToEven(points[k][c])
			}
		}
		for c := range 2 {
			anchors[i][c] = math.RoundToEven(anchors[i][c] / float64(len(group)))
		}
	}
	return anchors
}
