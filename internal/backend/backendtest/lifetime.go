package backendtest

import (
	"bytes"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

func closesTwice(t *testing.T, b backend.Backend) {
	s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: affine()}, cpu)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); fault.KindOf(err) != fault.Internal {
		t.Errorf("Close of the backend with an open session: %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, 1, 2)}); err == nil {
		t.Error("Run after Close: no error")
	}
	if m := s.Memory(); m.Held != 0 {
		t.Errorf("Memory after Close: %+v", m)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close of the backend: %v", err)
	}
	if s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: affine()}, cpu); err == nil {
		s.Close()
		t.Error("Load after Close: no error")
	}
}

func reportsMemory(t *testing.T, b backend.Backend) {
	const n = 1024 // weights of 4 MiB, unlike anything the allocator has already
	w := make([]float32, n*n)
	for i := range w {
		w[i] = float32(i % 7)
	}
	var g Graph
	g.Const("w", w, n, n)
	g.Const("v", w, n, n) // kernels repack the weights of a MatMul, and not those of an Add
	g.Node("MatMul", []string{"x", "w"}, []string{"xw"})
	g.Node("ReduceMean", []string{"xw"}, []string{"m"}, Int("keepdims", 1))
	g.Node("Add", []string{"m", "v"}, []string{"y"})
	g.Input("x", tensor.F32, -1, n)
	g.Output("y", tensor.F32, n, n)
	s := load(t, b, g.Bytes())
	check := func(when string) {
		m := s.Memory()
		t.Logf("%s: %+v", when, m)
		if m.Held < 2*4*n*n || m.Peak < m.Held || m.Held > 1<<30 {
			t.Errorf("%s: %+v for weights of %d bytes", when, m, 2*4*n*n)
		}
	}
	check("after Load")
	run(t, s, map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, sized(b, 256, 2), n)})
	check("after Run")
}

// shrinks calls Shrink at various times: the results stay the same, and memory
// taken for large inputs is given back.
func shrinks(t *testing.T, b backend.Backend) {
	s := load(t, b, affine())
	s.Shrink()
	s.Shrink()
	x := tensor.New(tensor.F32, sized(b, 1<<18, 1<<12), 2)
	for i := range x.F32() {
		x.F32()[i] = float32(i % 5)
	}
	want := run(t, s, map[string]*tensor.Tensor{"x": x})["y"]
	for range 3 {
		s.Shrink()
		if got := run(t, s, map[string]*tensor.Tensor{"x": x})["y"]; !bytes.Equal(got.Data, want.Data) {
			t.Fatal("the result after Shrink differs")
		}
	}
	full := s.Memory().Held
	small := map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{1, 1}, 1, 2)}
	s.Shrink()
	wantF32(t, run(t, s, small)["y"], []int{1, 3}, 5.5, 7, 8.5)
	if m := s.Memory(); m.Held > full {
		t.Errorf("after Shrink the session holds %d bytes, before %d", m.Held, full)
	}
	checkLeak(t, "Shrink and Run", 200, 20<<10, func() {
		s.Shrink()
		run(t, s, small)
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Shrink() // does nothing on a closed session
}

// profiles loads with Options.Profile.
func profiles(t *testing.T, b backend.Backend) {
	o := cpu
	o.Profile = true
	s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: affine()}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		run(t, s, map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, 512, 2)})
	}
	p, ok := s.(backend.Profiler)
	if !ok {
		t.Fatalf("%T is not a Profiler", s)
	}
	for range 2 {
		nodes, err := p.Nodes()
		if err != nil || len(nodes) == 0 {
			t.Fatalf("%v, %v", nodes, err)
		}
		for _, n := range nodes {
			if n.Name == "" || n.Type == "" || n.Time < 0 || n.Time > time.Minute {
				t.Errorf("%+v", n)
			}
		}
	}
	if nodes, err := load(t, b, affine()).(backend.Profiler).Nodes(); err == nil {
		t.Errorf("without Options.Profile: %v", nodes)
	}
}

func doesNotLeak(t *testing.T, b backend.Backend) {
	SkipShort(t)
	s := load(t, b, affine())
	x := tensor.New(tensor.F32, 64, 2)
	bad := map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, 1, 3)}
	// The full numbers of calls are for the long tests.
	runs, sessions := 200, 40
	if long() {
		runs, sessions = 1000, 200
	}
	checkLeak(t, "Run", runs, 4<<10, func() {
		run(t, s, map[string]*tensor.Tensor{"x": x})
		if _, err := s.Run(t.Context(), bad); err == nil {
			t.Fatal("no error for a wrong shape")
		}
	})
	checkLeak(t, "Load and Close", sessions, 20<<10, func() {
		s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: affine()}, cpu)
		if err != nil {
			t.Fatal(err)
		}
		run(t, s, map[string]*tensor.Tensor{"x": x})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: []byte("broken")}, cpu); err == nil {
			s.Close()
			t.Fatal("no error for a broken model")
		}
	})
}

// checkLeak calls f n times a round, and allows the process to grow by so many
// bytes a call. A leak grows it in every round; stacks of threads, arenas and the
// garbage collector do so only in some.
func checkLeak(t *testing.T, name string, n int, allowed int64, f func()) {
	t.Helper()
	const rounds = 8
	limit := allowed * int64(n)
	repeat := func(n int) {
		for range n {
			f()
		}
	}
	repeat(n / 5) // allocators settle
	var grown []int64
	for range rounds {
		before := residentBytes(t)
		repeat(n)
		if grown = append(grown, residentBytes(t)-before); grown[len(grown)-1] <= limit {
			break
		}
	}
	t.Logf("%d × %s: %+d bytes", n, name, grown)
	if slices.Min(grown) > limit {
		t.Errorf("%d × %s grew the process each time, by %d bytes", n, name, grown)
	}
}

func residentBytes(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("this system has no /proc/self/statm")
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		t.Fatalf("/proc/self/statm holds %q", text)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
