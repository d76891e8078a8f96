package face

import (
	"encoding/binary"
	"encoding/json"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/frame/frametest"
)

// golden is a safetensors file of float32 tensors.
type golden map[string]struct {
	shape []int
	data  []float32
}

func readGolden(t testing.TB, path string) golden {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	var head map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &head); err != nil {
		t.Fatal(err)
	}
	delete(head, "__metadata__")
	g := golden{}
	for name, raw := range head {
		var e struct {
			DType string `json:"dtype"`
			Shape []int  `json:"shape"`
			Span  [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		if e.DType != "F32" {
			continue
		}
		d := b[8+int(n)+e.Span[0] : 8+int(n)+e.Span[1]]
		v := make([]float32, len(d)/4)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(d[4*i:]))
		}
		g[name] = struct {
			shape []int
			data  []float32
		}{e.Shape, v}
	}
	return g
}

func readPNG(t testing.TB, path string) *frame.RGB {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return frametest.FromImage(m)
}

// compare fails the test if more than 1 % of the values differ, or one by more than limit
// levels.
func compare(t *testing.T, name string, got, want []byte, limit int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	diff, worst := 0, 0
	for i := range got {
		if d := int(got[i]) - int(want[i]); d != 0 {
			diff++
			worst = max(worst, d, -d)
		}
	}
	part := 100 * float64(diff) / float64(len(got))
	t.Logf("%s: %.3f %% of values differ, at most by %d", name, part, worst)
	if part > 1 || worst > limit {
		t.Errorf("%s: %.3f %% of values differ, at most by %d; want under 1 %% and %d", name, part, worst, limit)
	}
}

// closeTo fails the test if a value differs by more than tol.
func closeTo(t *testing.T, name string, got, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= worst) {
			worst = d
		}
	}
	t.Logf("%s: largest difference %.2g", name, worst)
	if !(worst <= tol) {
		t.Errorf("%s: differs by %g, want at most %g", name, worst, tol)
	}
}
