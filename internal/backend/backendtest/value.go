package backendtest

import (
	"context"
	"errors"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// everything keeps all outputs on the device.
func everything(string) bool { return true }

// loadDoubler loads a model that computes y = 2·x of n numbers and sum = Σx, whose outputs
// can stay on the device.
func loadDoubler(t *testing.T, b backend.Backend, n int) backend.Session {
	t.Helper()
	g := onnx.New("doubler")
	x := g.Input("x", tensor.F32, n)
	g.Output("y", g.Op("Add", []onnx.Value{x, x}), tensor.F32, n)
	g.Output("sum", g.Op("ReduceSum", []onnx.Value{x, g.Ints(0)}, onnx.Int("keepdims", 1)), tensor.F32, 1)
	o := cpu
	o.Resident = true
	return loadGraph(t, b, g, o)
}

func runValues(t *testing.T, s backend.Session, x backend.Value, keep func(string) bool) map[string]backend.Value {
	t.Helper()
	out, err := s.RunValues(t.Context(), map[string]backend.Value{"x": x}, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, v := range out {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return out
}

func host(t *testing.T, v backend.Value) *tensor.Tensor {
	t.Helper()
	h, err := v.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// keepsOutputs passes tensors through three sessions without copying them to the host.
func keepsOutputs(t *testing.T, b backend.Backend) {
	s, other := loadDoubler(t, b, 3), loadDoubler(t, b, 3)
	x, err := b.Upload(t.Context(), "cpu", tensor.FromF32([]float32{1, -2, 0.5}, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	first := runValues(t, s, x, everything)
	second := runValues(t, other, first["y"], everything)
	if y := second["y"]; y.DType() != tensor.F32 || len(y.Shape()) != 1 || y.Shape()[0] != 3 {
		t.Errorf("a value of %v %v", y.DType(), y.Shape())
	}
	wantF32(t, host(t, second["y"]), []int{3}, 4, -8, 2)
	wantF32(t, host(t, second["sum"]), []int{1}, -1)
	// A value stays what it is while its session computes something else.
	runValues(t, s, backend.InHost(tensor.FromF32([]float32{7, 7, 7}, 3)), everything)
	wantF32(t, host(t, first["y"]), []int{3}, 2, -4, 1)

	mixed := runValues(t, s, second["y"], func(output string) bool { return output == "y" })
	if sum, ok := backend.HostTensor(mixed["sum"]); !ok {
		t.Error("an output that is not kept is not in the memory of the process")
	} else {
		wantF32(t, sum, []int{1}, -2)
	}
	wantF32(t, host(t, mixed["y"]), []int{3}, 8, -16, 4)

	// Values outlive the session that has computed them.
	last := loadDoubler(t, b, 3)
	out, err := last.RunValues(t.Context(), map[string]backend.Value{"x": mixed["y"]}, everything)
	if err != nil {
		t.Fatal(err)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	wantF32(t, host(t, out["y"]), []int{3}, 16, -32, 8)
	for _, v := range out {
		if err := errors.Join(v.Close(), v.Close()); err != nil {
			t.Error(err)
		}
	}
}

// refusesValues: a wrong shape, a cancelled run, and a value that was closed.
func refusesValues(t *testing.T, b backend.Backend) {
	s, large := loadDoubler(t, b, 3), loadDoubler(t, b, 4)
	x := backend.InHost(tensor.FromF32([]float32{1, 2, 3}, 3))
	y := runValues(t, s, x, everything)["y"]
	if _, err := large.RunValues(t.Context(), map[string]backend.Value{"x": y}, everything); err == nil {
		t.Error("a value of another shape is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.RunValues(ctx, map[string]backend.Value{"x": y}, everything); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	wantF32(t, host(t, y), []int{3}, 2, 4, 6)
	if _, ok := backend.HostTensor(y); ok {
		return // stays valid after Close
	}
	if err := y.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.RunValues(t.Context(), map[string]backend.Value{"x": y}, everything); err == nil {
		t.Error("a closed value is accepted")
	}
	if _, err := y.Host(t.Context()); err == nil {
		t.Error("a closed value is copied")
	}
}

// releasesOutputs closes kept outputs of 4 MB many times; a session must not hold more
// than a few of them.
func releasesOutputs(t *testing.T, b backend.Backend) {
	const n, runs = 1 << 20, 100
	s := loadDoubler(t, b, n)
	x := backend.InHost(tensor.New(tensor.F32, n))
	for range runs {
		out, err := s.RunValues(t.Context(), map[string]backend.Value{"x": x}, everything)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m := s.Memory(); m.Exact && m.Held > runs/4*n*4 {
		t.Errorf("the session holds %d bytes after %d outputs of %d", m.Held, runs, n*4)
	}
}
