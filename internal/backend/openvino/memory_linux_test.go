package openvino

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

func TestNoMemory(t *testing.T) {
	lib := backendtest.Library(t, Name)
	backendtest.NoMemory(t, func(t *testing.T) backend.Backend {
		b, err := Open(t.Context(), lib)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}
