package onnxruntime

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

func TestAttentionIsFused(t *testing.T) {
	backendtest.FusedAttention(t, open(t), true, backend.F32, "MultiHeadAttention")
}

func TestAttentionMemory(t *testing.T) {
	backendtest.Library(t, Name) // or skip
	backendtest.FusedAttentionMemory(t, openBackend, true, backend.F32)
}
