package face

import (
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
)

// installed returns the backends whose library is on this machine, whether it works or not.
func installed(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, name := range []string{"openvino", "onnxruntime"} {
		if _, err := wheels.Candidates(t.Context(), name); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		const text = "no inference runtime is installed; run: lipstream runtime install openvino"
		if os.Getenv("LIPSTREAM_REQUIRE_RUNTIMES") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return names
}

// openBackend returns OpenVINO, which runs the networks faster, or in a short run ONNX
// Runtime, which compiles them faster.
func openBackend(t testing.TB) backend.Backend {
	t.Helper()
	names := installed(t)
	if testing.Short() {
		return sharedtest.Open(t, names[len(names)-1])
	}
	return sharedtest.Open(t, names[0])
}

// eachBackend runs the test on every backend that is installed.
func eachBackend(t *testing.T, run func(t *testing.T, b backend.Backend)) {
	backendtest.SkipShort(t)
	for _, name := range installed(t) {
		t.Run(name, func(t *testing.T) { run(t, sharedtest.Open(t, name)) })
	}
}

// nets returns the networks. Their backend closes them.
func nets(t testing.TB) (*Detector, *Mesh) {
	t.Helper()
	b := openBackend(t)
	d, err := NewDetector(t.Context(), b, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMesh(t.Context(), b, 1)
	if err != nil {
		t.Fatal(err)
	}
	return d, m
}

func TestMain(m *testing.M) { sharedtest.Main(m) }
