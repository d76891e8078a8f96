package backendtest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// room is what the limited process can still allocate; the failing Load and the
// failing Run need more.
const room = 192 << 20

// NoMemory makes real allocations fail, in a child process whose limit
// (RLIMIT_DATA) is a little above what it has. The failing Load and the failing
// Run must return errors of kind Memory, and everything must work afterwards.
func NoMemory(t *testing.T, open func(t *testing.T) backend.Backend) {
	SkipShort(t)
	if !InChild(t) {
		return
	}
	b := open(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	small := load(t, b, affine())
	in := map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, 64, 2)}
	run(t, small, in)

	// y = mean(softmax(x·xᵀ)): of n numbers it makes n² twice.
	var g Graph
	g.Node("Transpose", []string{"x"}, []string{"xt"})
	g.Node("MatMul", []string{"x", "xt"}, []string{"xx"})
	g.Node("Softmax", []string{"xx"}, []string{"s"})
	g.Node("ReduceMean", []string{"s"}, []string{"y"}, Int("keepdims", 1))
	g.Input("x", tensor.F32, -1, 1)
	g.Output("y", tensor.F32, -1, -1)
	square := load(t, b, g.Bytes())
	compute := func(n int) error {
		_, err := square.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, n, 1)})
		return err
	}
	if err := compute(1000); err != nil {
		t.Fatal(err)
	}
	heavy := heavyGraph(t)

	limit(t, room)
	usable := func(when string) {
		t.Helper()
		run(t, small, in)
		if err := compute(1000); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: affine()}, cpu)
		if err != nil {
			t.Errorf("%s: Load: %v", when, err)
			return
		}
		run(t, s, in)
		if err := s.Close(); err != nil {
			t.Errorf("%s: Close: %v", when, err)
		}
	}
	check := func(what string, err error) {
		t.Helper()
		t.Logf("%s: %v", what, err)
		if fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" {
			t.Errorf("%s: kind %d, hint %q of: %v", what, fault.KindOf(err), fault.HintOf(err), err)
		}
	}
	usable("before")
	for range 3 {
		check("Run", compute(16384)) // 2 times 1 GiB
		usable("after Run")
		s, err := b.Load(t.Context(), backend.Model{Name: "heavy", Graph: heavy}, cpu)
		if err == nil {
			_ = s.Close()
		}
		check("Load", err)
		usable("after Load")
	}
}

// heavyGraph multiplies with a weight of 512 MiB in a file, which the backends copy
// into their own layout.
func heavyGraph(t *testing.T) *onnx.Graph {
	const n, size = 1 << 13, 4 << 27
	path := filepath.Join(t.TempDir(), "weights")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	g := onnx.New("heavy")
	x := g.Input("x", tensor.F32, -1, n)
	w := onnx.Weight{Name: "w", Tensor: &tensor.Tensor{DType: tensor.F32, Shape: []int{n, size / 4 / n}, Data: data}, File: path}
	y := g.Op("MatMul", []onnx.Value{x, g.Weight(w)})
	g.Output("y", y, tensor.F32, -1, size/4/n)
	return g
}

// limit sets RLIMIT_DATA so that the process can allocate more bytes than it has.
func limit(t *testing.T, more int64) {
	have := memory.SelfStatus()["VmData"]
	if have == 0 {
		t.Skip("this system does not report the size of a process")
	}
	to := uint64(have + more)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: to, Max: to}); err != nil {
		t.Fatal(err)
	}
	t.Logf("limited to %d MiB beyond %d MiB", more>>20, have>>20)
}
