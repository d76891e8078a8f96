package backendtest

import (
	"context"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/tensor"
)

// RequireVariable, when set in the environment, makes tests fail that need a
// runtime which is not installed, as CI does. Otherwise they are skipped.
const RequireVariable = "LIPSTREAM_REQUIRE_RUNTIMES"

// Absent ends a test for which something is not installed.
func Absent(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(RequireVariable) != "" || os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Library returns the path of the installed library of a backend.
func Library(t testing.TB, name string) string {
	t.Helper()
	list, err := wheels.Candidates(t.Context(), name)
	if err != nil {
		Absent(t, "%v; run: lipstream runtime install %s", err, name)
	}
	native.UseCRT(list[0].CRT)
	return list[0].Path
}

// sized returns n, or small for a device of OnDevice, which may compute very slowly.
func sized(b backend.Backend, n, small int) int {
	if _, ok := b.(onDevice); ok {
		return small
	}
	return n
}

// OnDevice returns b with the named device in place of the CPU, so that Run checks that
// device. half reports whether the device computes in float16.
func OnDevice(b backend.Backend, device string, half bool) backend.Backend {
	return onDevice{b, device, half}
}

type onDevice struct {
	backend.Backend
	device string
	half   bool
}

func (d onDevice) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if o.Device == "cpu" {
		o.Device = d.device
	}
	return d.Backend.Load(ctx, m, o)
}

func (d onDevice) Upload(ctx context.Context, device string, t *tensor.Tensor) (backend.Value, error) {
	if device == "cpu" {
		device = d.device
	}
	return d.Backend.Upload(ctx, device, t)
}
