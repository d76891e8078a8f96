package backendtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// takesGraph loads a graph with one weight in memory, in half precision, and one
// that is mapped from a file.
func takesGraph(t *testing.T, b backend.Backend) {
	w := tensor.FromF32([]float32{1, 2, 3, 4, 5, 6}, 3, 2) // out, in: as PyTorch keeps it
	file := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(file, append(make([]byte, 64), w.Data...), 0o600); err != nil {
		t.Fatal(err)
	}
	matrix := onnx.Weight{Name: "w", Tensor: w, File: file, Offset: 64}
	half := &tensor.Tensor{DType: tensor.F16, Shape: []int{3}, Data: []byte{0, 0x38, 0, 0, 0, 0xb8}} // 0.5 0 -0.5
	g := onnx.New("affine")
	x := g.Input("x", tensor.F32, -1, 2)
	bias := g.Cast(g.Weight(onnx.Weight{Name: "b", Tensor: half}), tensor.F32)
	y := g.Op("Gemm", []onnx.Value{x, g.Weight(matrix), bias}, onnx.Int("transB", 1))
	g.Output("y", y, tensor.F32, -1, 3)
	if g.Weight(matrix) != "w" || len(g.Weights()) != 2 || g.WeightBytes() != 24+6 {
		t.Errorf("weights %v", g.Weights())
	}
	s, err := b.Load(t.Context(), backend.Model{Name: "affine", Graph: g}, cpu)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := run(t, s, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{1, 1, 2, 0}, 2, 2)})
	wantF32(t, out["y"], []int{2, 3}, 3.5, 7, 10.5, 2.5, 6, 9.5)
}
