package onnxruntime

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

func TestAttentionIsFused(t *testing.T) {
	b, err := Open(t.Context(), backendtest.Library(t, Name))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	backendtest.FusedAttention(t, b, true, backend.F32, "MultiHeadAttention")
}

func TestAttentionMemory(t *testing.T) {
	lib := backendtest.Library(t, Name)
	backendtest.FusedAttentionMemory(t, func(t *testing.T) backend.Backend {
		b, err := Open(t.Context(), lib)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, true, backend.F32)
}
