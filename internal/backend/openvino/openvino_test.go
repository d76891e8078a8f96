package openvino

import (
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

func TestConformance(t *testing.T) {
	lib := os.Getenv("TMP_OV")
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		b, err := Open(t.Context(), lib)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}
