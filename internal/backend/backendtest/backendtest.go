// Package backendtest is the conformance suite of the backends: every
// implementation of backend.Backend must pass Run.
package backendtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// LongVariable, when set in the environment, makes tests take their full length.
const LongVariable = "LIPSTREAM_LONG"

func long() bool { return os.Getenv(LongVariable) != "" }

// SkipShort skips a test of several seconds under go test -short.
func SkipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes several seconds")
	}
}

// Run checks the backend that open returns. Each test opens its own, which must
// close without an error.
func Run(t *testing.T, open func(t *testing.T) backend.Backend) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, b backend.Backend)
	}{
		{"describes itself", describes},
		{"loads from bytes", loadsFromBytes},
		{"loads from a path with external weights", loadsFromPath},
		{"takes a graph with weights in memory", takesGraph},
		{"lists the ports", listsPorts},
		{"keeps the names of aliased outputs", keepsAliasedNames},
		{"takes any batch size", takesAnyBatch},
		{"takes other element types", takesOtherTypes},
		{"takes half precision", takesHalf},
		{"takes an empty tensor", takesEmpty},
		{"refuses wrong inputs", refusesWrongInputs},
		{"refuses broken models", refusesBrokenModels},
		{"refuses what it cannot do", refusesOptions},
		{"stops when cancelled", stopsWhenCancelled},
		{"obeys contexts that have ended", obeysEndedContexts},
		{"serialises concurrent callers", serialisesCallers},
		{"runs several sessions at once", runsSeveralSessions},
		{"closes twice", closesTwice},
		{"reports memory", reportsMemory},
		{"shrinks", shrinks},
		{"profiles", profiles},
		{"keeps outputs on the device", keepsOutputs},
		{"refuses other values", refusesValues},
		{"releases kept outputs", releasesOutputs},
		{"stays on the device", staysOnDevice},
		{"counts conversions", countsConversions},
		{"shares a limit", sharesLimit},
		{"copies from many callers", copiesFromManyCallers},
		{"does not leak", doesNotLeak},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("Close of the backend: %v", err)
				}
				if err := b.Close(); err != nil {
					t.Errorf("second Close of the backend: %v", err)
				}
			})
			c.test(t, b)
		})
	}
}

// cpu are the options of most tests: the same arithmetic everywhere.
var cpu = backend.Options{Device: "cpu", Precision: backend.F32, Threads: 2}

func load(t *testing.T, b backend.Backend, model []byte) backend.Session {
	t.Helper()
	return loadModel(t, b, backend.Model{Name: t.Name(), Bytes: model}, cpu)
}

func loadGraph(t *testing.T, b backend.Backend, g *onnx.Graph, o backend.Options) backend.Session {
	t.Helper()
	return loadModel(t, b, backend.Model{Name: g.Name(), Graph: g}, o)
}

// loadModel loads a model, and closes its session after the test.
func loadModel(t *testing.T, b backend.Backend, m backend.Model, o backend.Options) backend.Session {
	t.Helper()
	s, err := b.Load(t.Context(), m, o)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func run(t *testing.T, s backend.Session, in map[string]*tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	out, err := s.Run(t.Context(), in)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return out
}

func wantF32(t *testing.T, got *tensor.Tensor, shape []int, want ...float32) {
	t.Helper()
	if got == nil {
		t.Fatal("the output is missing")
	}
	if !slices.Equal(got.Shape, shape) || got.Len() != len(want) {
		t.Fatalf("got shape %v, want %v", got.Shape, shape)
	}
	for i, v := range got.F32() {
		if math.Abs(float64(v-want[i])) > 1e-5 {
			t.Fatalf("got %v, want %v", got.F32(), want)
		}
	}
}

// affine is y = x·w + b with a symbolic batch: x [-1 2], y [-1 3].
func affine() []byte {
	var g Graph
	g.Const("w", []float32{1, 2, 3, 4, 5, 6}, 2, 3)
	g.Const("b", []float32{0.5, 0, -0.5}, 3)
	g.Node("MatMul", []string{"x", "w"}, []string{"xw"})
	g.Node("Add", []string{"xw", "b"}, []string{"y"})
	g.Input("x", tensor.F32, -1, 2)
	g.Output("y", tensor.F32, -1, 3)
	return g.Bytes()
}

func describes(t *testing.T, b backend.Backend) {
	if b.Name() == "" || !strings.ContainsAny(b.Version(), "0123456789") {
		t.Errorf("Name %q, Version %q", b.Name(), b.Version())
	}
	list, err := b.Devices()
	if err != nil || len(list) == 0 {
		t.Fatalf("Devices: %v, %v", list, err)
	}
	cpus := 0
	for _, d := range list {
		t.Logf("device %s: %s", d.ID, d.Name)
		if d.ID == "cpu" {
			cpus++
		}
		if d.Name == "" {
			t.Errorf("device %s has no name", d.ID)
		}
	}
	if cpus != 1 {
		t.Errorf("%d devices are called cpu", cpus)
	}
}

func loadsFromBytes(t *testing.T, b backend.Backend) {
	s := load(t, b, affine())
	out := run(t, s, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{1, 1}, 1, 2)})
	wantF32(t, out["y"], []int{1, 3}, 5.5, 7, 8.5)
	if !bytes.Equal(SmokeGraph(), []byte(smokeBytes(t))) {
		t.Error("SmokeGraph differs from the bytes in package backend")
	}
}

// smokeBytes returns the model that backend.Smoke loads.
func smokeBytes(t *testing.T) []byte {
	var r recorder
	_ = backend.Smoke(t.Context(), &r) // it fails: the recorder loads nothing
	return r.model
}

type recorder struct {
	backend.Backend
	model []byte
}

func (r *recorder) Load(_ context.Context, m backend.Model, _ backend.Options) (backend.Session, error) {
	r.model = m.Bytes
	return nil, errors.New("recorded")
}

func loadsFromPath(t *testing.T, b backend.Backend) {
	dir := t.TempDir()
	weights := make([]byte, 64+16) // the tensor's bytes begin at 64
	for i, v := range []float32{1, 2, 3, 4} {
		binary.LittleEndian.PutUint32(weights[64+4*i:], math.Float32bits(v))
	}
	var g Graph
	g.ExternalConst("w", "weights.bin", "64", "16", 2, 2)
	g.Node("MatMul", []string{"x", "w"}, []string{"y"})
	g.Input("x", tensor.F32, -1, 2)
	g.Output("y", tensor.F32, -1, 2)
	path := filepath.Join(dir, "model ü.onnx")
	for name, data := range map[string][]byte{path: g.Bytes(), filepath.Join(dir, "weights.bin"): weights} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Load(t.Context(), backend.Model{Name: "external", Path: path}, cpu)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	defer s.Close()
	out := run(t, s, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{1, 10}, 1, 2)})
	wantF32(t, out["y"], []int{1, 2}, 31, 42)
}

func listsPorts(t *testing.T, b backend.Backend) {
	var g Graph
	g.Node("MatMul", []string{"zebra", "ape"}, []string{"m"})
	g.Node("Identity", []string{"ids"}, []string{"same"})
	g.Input("zebra", tensor.F32, -1, 4)
	g.Input("ape", tensor.F32, 4, 3)
	g.Input("ids", tensor.I64, 2)
	g.Output("m", tensor.F32, -1, 3)
	g.Output("same", tensor.I64, 2)
	s := load(t, b, g.Bytes())
	check := func(what string, got []backend.Port, want ...backend.Port) {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("inputs", s.Inputs(),
		backend.Port{Name: "zebra", DType: tensor.F32, Shape: []int{-1, 4}},
		backend.Port{Name: "ape", DType: tensor.F32, Shape: []int{4, 3}},
		backend.Port{Name: "ids", DType: tensor.I64, Shape: []int{2}})
	check("outputs", s.Outputs(),
		backend.Port{Name: "m", DType: tensor.F32, Shape: []int{-1, 3}},
		backend.Port{Name: "same", DType: tensor.I64, Shape: []int{2}})
}

// keepsAliasedNames has two outputs that an optimiser merges into one tensor.
func keepsAliasedNames(t *testing.T, b backend.Backend) {
	var g Graph
	g.Node("Relu", []string{"x"}, []string{"y"})
	g.Node("Identity", []string{"y"}, []string{"a"})
	g.Input("x", tensor.F32, -1)
	g.Output("y", tensor.F32, -1)
	g.Output("a", tensor.F32, -1)
	s := load(t, b, g.Bytes())
	out := run(t, s, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{-1, 2}, 2)})
	wantF32(t, out["y"], []int{2}, 0, 2)
	wantF32(t, out["a"], []int{2}, 0, 2)
	if len(s.Outputs()) != 2 || s.Outputs()[0].Name != "y" || s.Outputs()[1].Name != "a" {
		t.Errorf("outputs are %v", s.Outputs())
	}
}

func takesAnyBatch(t *testing.T, b backend.Backend) {
	s := load(t, b, affine())
	for _, n := range []int{1, 3, 16, 2, 1} {
		x := tensor.New(tensor.F32, n, 2)
		want := make([]float32, 0, 3*n)
		for i := range n {
			v := float32(i)
			x.F32()[2*i] = v
			want = append(want, v+0.5, 2*v, 3*v-0.5)
		}
		wantF32(t, run(t, s, map[string]*tensor.Tensor{"x": x})["y"], []int{n, 3}, want...)
	}
}

func takesOtherTypes(t *testing.T, b backend.Backend) {
	var g Graph
	g.Node("Add", []string{"i", "i"}, []string{"i2"})
	g.Node("Cast", []string{"u"}, []string{"uf"}, Int("to", 1))
	g.Node("Neg", []string{"f"}, []string{"minus"})
	g.Input("i", tensor.I64, -1)
	g.Input("u", tensor.U8, -1)
	g.Input("f", tensor.F32) // a scalar
	g.Output("i2", tensor.I64, -1)
	g.Output("uf", tensor.F32, -1)
	g.Output("minus", tensor.F32)
	s := load(t, b, g.Bytes())
	i := tensor.New(tensor.I64, 2)
	binary.NativeEndian.PutUint64(i.Data, 1_000_000_000) // a backend may compute in 32 bits: OpenVINO's CPU does
	binary.NativeEndian.PutUint64(i.Data[8:], 7)
	u := tensor.New(tensor.U8, 2)
	u.Data[0], u.Data[1] = 7, 255
	out := run(t, s, map[string]*tensor.Tensor{"i": i, "u": u, "f": tensor.FromF32([]float32{1.5})})
	if got := out["i2"]; got.DType != tensor.I64 || binary.NativeEndian.Uint64(got.Data) != 2_000_000_000 {
		t.Errorf("i64: got %v", got)
	}
	wantF32(t, out["uf"], []int{2}, 7, 255)
	wantF32(t, out["minus"], []int{}, -1.5)
}

// takesHalf converts from and to float16. A device that cannot must say so.
func takesHalf(t *testing.T, b backend.Backend) {
	var g Graph
	g.Node("Cast", []string{"h"}, []string{"hf"}, Int("to", 1))
	g.Node("Cast", []string{"f"}, []string{"fh"}, Int("to", 10))
	g.Input("h", tensor.F16, -1)
	g.Input("f", tensor.F32) // a scalar
	g.Output("hf", tensor.F32, -1)
	g.Output("fh", tensor.F16)
	s := load(t, b, g.Bytes())
	h := tensor.New(tensor.F16, 1)
	binary.NativeEndian.PutUint16(h.Data, 0x3e00) // 1.5
	in := map[string]*tensor.Tensor{"h": h, "f": tensor.FromF32([]float32{1.5})}
	if d, ok := b.(onDevice); ok && !d.half {
		if out, err := s.Run(t.Context(), in); fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "`precision`") {
			t.Errorf("got %v; kind %d, hint %q of: %v", out, fault.KindOf(err), fault.HintOf(err), err)
		}
		return
	}
	out := run(t, s, in)
	wantF32(t, out["hf"], []int{1}, 1.5)
	if got := out["fh"]; got.DType != tensor.F16 || len(got.Shape) != 0 || binary.NativeEndian.Uint16(got.Data) != 0x3e00 {
		t.Errorf("f16: got %v", got)
	}
}

func takesEmpty(t *testing.T, b backend.Backend) {
	s := load(t, b, SmokeGraph())
	out := run(t, s, map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, 0)})
	if y := out["y"]; y == nil || y.Len() != 0 {
		t.Errorf("got %v", y)
	}
	out = run(t, s, map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{2}, 1)})
	wantF32(t, out["y"], []int{1}, 4)
}
