package face

import (
	"context"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
)

func openBackend(t testing.TB) backend.Backend {
	t.Helper()
	b, err := onnxruntime.Open(t.Context(), os.Getenv("TMP_ORT"))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}
