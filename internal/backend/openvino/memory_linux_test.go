package openvino

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

func TestNoMemory(t *testing.T) {
	backendtest.Library(t, Name) // or skip
	backendtest.NoMemory(t, openBackend)
}
