package face

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/runtimes"
	"github.com/lipstream/lipstream/internal/backend/wheels"
)

// installed are the backends whose library is on this machine, working or not.
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

func open(t testing.TB, name string) backend.Backend {
	t.Helper()
	b, err := runtimes.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err) // it is installed, so this is no reason to skip
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// openBackend opens the preferred backend.
func openBackend(t testing.TB) backend.Backend {
	t.Helper()
	installed(t)
	return open(t, "")
}

// eachBackend runs the test on every backend that is installed.
func eachBackend(t *testing.T, run func(t *testing.T, b backend.Backend)) {
	for _, name := range installed(t) {
		t.Run(name, func(t *testing.T) { run(t, open(t, name)) })
	}
}

// shared are the networks of the tests that do not care which backend runs
// them: compiling them takes longer than most tests.
var shared struct {
	backend  backend.Backend
	detector *Detector
	mesh     *Mesh
}

// nets returns the shared networks.
func nets(t testing.TB) (*Detector, *Mesh) {
	t.Helper()
	installed(t)
	if shared.mesh != nil {
		return shared.detector, shared.mesh
	}
	// Not the test's context: the networks outlive it.
	ctx := context.Background()
	var err error
	if shared.backend, err = runtimes.Open(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if shared.detector, err = NewDetector(ctx, shared.backend, 1); err != nil {
		t.Fatal(err)
	}
	if shared.mesh, err = NewMesh(ctx, shared.backend, 1); err != nil {
		t.Fatal(err)
	}
	return shared.detector, shared.mesh
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.mesh != nil {
		err := errors.Join(shared.detector.Close(), shared.mesh.Close(), shared.backend.Close())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}
