package openvino

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

func TestAttentionIsFused(t *testing.T) {
	b := open(t)
	list, err := b.Devices()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []backend.Precision{backend.F32, backend.BF16} {
		t.Run(string(p), func(t *testing.T) {
			if p == backend.BF16 && list[0].Half != p {
				t.Skip("this CPU does not compute in bf16")
			}
			backendtest.FusedAttention(t, b, false, p, "Subgraph")
		})
	}
}

func TestAttentionMemory(t *testing.T) {
	backendtest.Library(t, Name) // or skip
	for _, p := range []backend.Precision{backend.F32, backend.BF16} {
		t.Run(string(p), func(t *testing.T) { backendtest.FusedAttentionMemory(t, openBackend, false, p) })
	}
}
