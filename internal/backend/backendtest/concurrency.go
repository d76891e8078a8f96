package backendtest

import (
	"context"
	"errors"
	"math"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// longGraph multiplies x with w [n n] so often that a run with many rows takes very
// long. With the w that it returns, the identity, the result is x.
func longGraph(n, times int) (model []byte, w *tensor.Tensor) {
	var g Graph
	last := "x"
	for i := range times {
		next := "x" + strconv.Itoa(i)
		g.Node("MatMul", []string{last, "w"}, []string{next})
		last = next
	}
	g.Node("Identity", []string{last}, []string{"y"})
	g.Input("x", tensor.F32, -1, n)
	g.Input("w", tensor.F32, n, n)
	g.Output("y", tensor.F32, -1, n)
	w = tensor.New(tensor.F32, n, n)
	for i := range n {
		w.F32()[i*n+i] = 1
	}
	return g.Bytes(), w
}

// WhenBusy calls f when the process has computed for a moment, measured in processor time
// from now on, not by the clock. stop waits for the call, or prevents it.
func WhenBusy(t testing.TB, f func()) (stop func()) {
	t.Helper()
	self, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	spent := func() float64 {
		used, err := self.Times()
		if err != nil {
			t.Error(err)
			return math.Inf(1)
		}
		return used.User + used.System
	}
	begin, quit := spent(), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for spent() < begin+0.05 {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
		f()
	})
	return func() { close(quit); wg.Wait() }
}

// stopsWhenCancelled cancels runs that would take very long: before they begin,
// at any time around it, and while they compute.
func stopsWhenCancelled(t *testing.T, b backend.Backend) {
	n, rows := sized(b, 768, 64), sized(b, 2048, 128)
	model, w := longGraph(n, sized(b, 1000, 60))
	s := load(t, b, model)
	in := map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, rows, n), "w": w}
	for name, cancelling := range map[string]func(cancel func()) (stop func()){
		"before": func(cancel func()) func() { cancel(); return func() {} },
		"around": func(cancel func()) func() { go cancel(); return func() {} },
		"while":  func(cancel func()) func() { return WhenBusy(t, cancel) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		stop := cancelling(cancel)
		_, err := s.Run(ctx, in)
		stop()
		if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Cancelled {
			t.Fatalf("cancelled %s the run: kind %v of: %v", name, fault.KindOf(err), err)
		}
	}

	// The same session still computes.
	x := tensor.New(tensor.F32, 1, n)
	for i := range x.F32() {
		x.F32()[i] = float32(i)
	}
	wantF32(t, run(t, s, map[string]*tensor.Tensor{"x": x, "w": w})["y"], []int{1, n}, x.F32()...)
}

func obeysEndedContexts(t *testing.T, b backend.Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := b.Load(ctx, backend.Model{Name: "m", Bytes: affine()}, cpu); !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v, %v", s, err)
	}
	s := load(t, b, affine())
	in := map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, 1, 2)}
	if _, err := s.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	run(t, s, in)
}

func serialisesCallers(t *testing.T, b backend.Backend) {
	s := load(t, b, affine())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			v := float32(i)
			for range 25 {
				out, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.FromF32([]float32{v, 0}, 1, 2)})
				if err != nil {
					t.Errorf("Run: %v", err)
					return
				}
				if got := out["y"].F32(); got[0] != v+0.5 || got[1] != 2*v {
					t.Errorf("caller %d got %v", i, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func runsSeveralSessions(t *testing.T, b backend.Backend) {
	var wg sync.WaitGroup
	for i := range 4 {
		s := load(t, b, affine())
		wg.Go(func() {
			for n := range 20 {
				x := tensor.New(tensor.F32, n+1, 2)
				x.F32()[0] = float32(i)
				out, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": x})
				if err != nil || out["y"].F32()[1] != 2*float32(i) {
					t.Errorf("session %d: %v, %v", i, out, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
