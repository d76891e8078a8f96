package openvino

import (
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestPrecision multiplies numbers that bfloat16 cannot represent: bfloat16 must lose their
// low bits, and the default must not.
func TestPrecision(t *testing.T) {
	b := open(t)
	can, err := b.property("CPU", "OPTIMIZATION_CAPABILITIES")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(can)
	const n = 64
	w := make([]float32, n*n)
	for i := range n {
		w[i*n+i] = 1 + 1.0/1024
	}
	var g backendtest.Graph
	g.Const("w", w, n, n)
	g.Node("MatMul", []string{"x", "w"}, []string{"y"})
	g.Input("x", tensor.F32, -1, n)
	g.Output("y", tensor.F32, -1, n)
	x := tensor.New(tensor.F32, 4, n)
	for i := range x.F32() {
		x.F32()[i] = 1
	}
	for _, p := range []backend.Precision{backend.Auto, backend.F32, backend.BF16, backend.F16} {
		s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: g.Bytes()}, backend.Options{Device: "cpu", Precision: p})
		needs := map[backend.Precision]string{backend.BF16: "BF16", backend.F16: "FP16"}[p]
		if needs != "" && !slices.Contains(strings.Fields(can), needs) {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q, which this CPU cannot do: %v", p, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", p, err)
			continue
		}
		out, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": x})
		if err != nil {
			t.Fatal(err)
		}
		got := out["y"].F32()[0]
		t.Logf("%q gives %v", p, got)
		if exact := got == 1+1.0/1024; exact == (p == backend.BF16) || got < 0.99 || got > 1.01 {
			t.Errorf("%q: got %v", p, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
