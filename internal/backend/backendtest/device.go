package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// deviceVariable, when set in the environment, is the device that golden tests and the
// conformance test of ONNX Runtime run on, such as "cuda:0".
const deviceVariable = "LIPSTREAM_TEST_DEVICE"

// Device returns the device that LIPSTREAM_TEST_DEVICE names, or "cpu".
func Device() string {
	if d := os.Getenv(deviceVariable); d != "" {
		return d
	}
	return "cpu"
}

// deviceOf returns the device that a backend of OnDevice, or any other, computes on.
func deviceOf(b backend.Backend) string {
	if d, ok := b.(onDevice); ok {
		return d.device
	}
	return "cpu"
}

// Count counts the nodes of a session that was loaded with Options.Profile and has run.
func Count(t testing.TB, s backend.Session) (c backend.NodeCounts) {
	t.Helper()
	c.Add(profiled(t, s))
	return c
}

// staysOnDevice checks that a graph with the networks' kinds of operators runs on the device
// as a whole, without copies to or from the CPU and without conversions.
func staysOnDevice(t *testing.T, b backend.Backend) {
	const n, c, side = 2, 8, 8
	g := onnx.New("operators")
	x := g.Input("x", tensor.F32, n, c, side, side)
	weight := func(name string, shape ...int) onnx.Value {
		w := tensor.New(tensor.F32, shape...)
		put(w, func(i int) float32 { return float32(i%5) / 10 })
		return g.Weight(onnx.Weight{Name: name, Tensor: w})
	}
	y := g.Op("Conv", []onnx.Value{x, weight("kernel", c, c, 3, 3)}, onnx.Ints("kernel_shape", 3, 3), onnx.Ints("pads", 1, 1, 1, 1))
	y = g.Op("Mul", []onnx.Value{y, g.Op("Sigmoid", []onnx.Value{y})})
	y = g.Op("Transpose", []onnx.Value{g.Op("Reshape", []onnx.Value{y, g.Ints(n, c, side*side)})}, onnx.Ints("perm", 0, 2, 1))
	y = g.Op("LayerNormalization", []onnx.Value{y, weight("gamma", c), weight("beta", c)}, onnx.Int("axis", -1))
	y = g.Op("MatMul", []onnx.Value{y, weight("matrix", c, c)})
	scores := g.Op("MatMul", []onnx.Value{y, g.Op("Transpose", []onnx.Value{y}, onnx.Ints("perm", 0, 2, 1))})
	y = g.Op("MatMul", []onnx.Value{g.Op("Softmax", []onnx.Value{scores}, onnx.Int("axis", -1)), y})
	y = g.Op("Concat", []onnx.Value{y, y}, onnx.Int("axis", -1))
	g.Output("y", y, tensor.F32, n, side*side, 2*c)
	o := cpu
	o.Profile, o.Resident = true, true
	s := loadGraph(t, b, g, o)
	run(t, s, noise(s))
	got := Count(t, s)
	t.Logf("%+v", got)
	if got.All == 0 || got.Memcpy > 0 || got.Cast > 0 || got.CPU > 0 && deviceOf(b) != "cpu" {
		t.Errorf("on %s: %+v", deviceOf(b), got)
	}
}

// countsConversions checks Count on a graph that converts numbers to integers and back.
// WebGPU has no integers of 64 bits, so the middle of the graph runs on the CPU.
func countsConversions(t *testing.T, b backend.Backend) {
	if b.Name() != "onnxruntime" {
		t.Skip("OpenVINO has its own names for the types of nodes")
	}
	g := onnx.New("conversions")
	x := g.Input("x", tensor.F32, 4)
	whole := g.Cast(g.Op("Mul", []onnx.Value{x, x}), tensor.I64)
	y := g.Cast(g.Op("Add", []onnx.Value{whole, whole}), tensor.F32)
	g.Output("y", g.Op("Mul", []onnx.Value{y, y}), tensor.F32, 4)
	o := cpu
	o.Profile = true
	s := loadGraph(t, b, g, o)
	wantF32(t, run(t, s, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{1, 2, 3, 4}, 4)})["y"], []int{4}, 4, 64, 324, 1024)
	got := Count(t, s)
	t.Logf("%+v", got)
	if got.Cast != 2 || got.All < 5 {
		t.Errorf("%+v", got)
	}
	if strings.HasPrefix(deviceOf(b), "webgpu:") && (got.Memcpy < 2 || got.CPU < 1 || got.CPU == got.All) {
		t.Errorf("integers on WebGPU: %+v", got)
	}
}

// sharesLimit: the limit of the arena is that of all sessions and tensors of a device.
func sharesLimit(t *testing.T, b backend.Backend) {
	if device := deviceOf(b); b.Name() != "onnxruntime" || device != "cpu" && !strings.HasPrefix(device, "cuda:") {
		t.Skip("the backend has no limit on the memory of device " + device)
	}
	const n, size = 1 << 18, 1 << 20 // numbers, bytes
	load := func() backend.Session {
		t.Helper()
		g := onnx.New("doubler")
		x := g.Input("x", tensor.F32, n)
		g.Output("y", g.Op("Add", []onnx.Value{x, x}), tensor.F32, n)
		o := cpu
		o.Resident, o.Arena = true, backend.Arena{Limit: 8 * size, Growth: backend.GrowExact}
		return loadGraph(t, b, g, o)
	}
	sessions := []backend.Session{load(), load()}
	in := map[string]backend.Value{"x": backend.InHost(tensor.New(tensor.F32, n))}
	var kept []backend.Value
	var err error
	for i := 0; err == nil && i < 16; i++ {
		var out map[string]backend.Value
		if out, err = sessions[i%2].RunValues(t.Context(), in, everything); err == nil {
			kept = append(kept, out["y"])
		}
	}
	if fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" || len(kept) < 4 || len(kept) > 8 {
		t.Errorf("%d tensors of 1 MiB fit into 8 MiB; then: %v", len(kept), err)
	}
	var sum int64
	for _, s := range sessions {
		sum += s.Memory().Held
	}
	if m := sessions[0].Memory(); m.Exact && (sum < int64(len(kept))*size || sum > 9*size) {
		t.Errorf("the sessions hold %d bytes", sum)
	}
	for _, v := range kept {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	out, err := sessions[1].RunValues(t.Context(), in, everything)
	if err != nil {
		t.Fatalf("after the tensors were closed: %v", err)
	}
	if err := out["y"].Close(); err != nil {
		t.Error(err)
	}
}

// copiesFromManyCallers copies tensors of more shapes than a backend prepares for, to the
// device and back.
func copiesFromManyCallers(t *testing.T, b backend.Backend) {
	s := loadDoubler(t, b, 3)
	var wg sync.WaitGroup
	for caller := range 4 {
		wg.Go(func() {
			for i := range 12 {
				if err := copyThrough(t.Context(), b, 1+(5*i+caller)%24); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	y := runValues(t, s, backend.InHost(tensor.FromF32([]float32{1, 2, 3}, 3)), everything)["y"]
	for range 3 {
		wg.Go(func() {
			h, err := y.Host(t.Context())
			if err != nil || h.F32()[2] != 6 {
				t.Errorf("got %v, %v", h, err)
			}
		})
	}
	wg.Wait()
}

// copyThrough copies n numbers to the device and back.
func copyThrough(ctx context.Context, b backend.Backend, n int) error {
	x := tensor.New(tensor.F32, n)
	x.F32()[n-1] = float32(n)
	v, err := b.Upload(ctx, "cpu", x)
	if err != nil {
		return err
	}
	h, err := v.Host(ctx)
	if err == nil && h.F32()[n-1] != float32(n) {
		err = fmt.Errorf("%v instead of %v", h.F32(), x.F32())
	}
	return errors.Join(err, v.Close())
}
