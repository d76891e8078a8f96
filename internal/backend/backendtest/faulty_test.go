package backendtest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// willing is a backend that loads and runs everything.
type willing struct{ backend.Backend }

func (willing) Load(context.Context, backend.Model, backend.Options) (backend.Session, error) {
	return doneSession{}, nil
}

type doneSession struct{ backend.Session }

func (doneSession) Run(context.Context, map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return nil, nil
}

func TestFaulty(t *testing.T) {
	f := NewFaulty(willing{})
	failed := func(err error) bool {
		if err != nil && (fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "") {
			t.Errorf("kind %d, hint %q of: %v", fault.KindOf(err), fault.HintOf(err), err)
		}
		return err != nil
	}
	s, err := f.Load(t.Context(), backend.Model{Name: "m"}, backend.Options{}) // call 1
	if failed(err) {
		t.Fatal(err)
	}
	f.Fail(2, 2) // calls 3 and 4
	for call := 2; call <= 5; call++ {
		_, err := s.Run(t.Context(), nil)
		if failed(err) != (call == 3 || call == 4) {
			t.Errorf("call %d: %v", call, err)
		}
	}
	f.Fail(1, 1)
	if s, err := f.Load(t.Context(), backend.Model{Name: "m"}, backend.Options{}); !failed(err) || s != nil {
		t.Errorf("Load: %v, %v", s, err)
	}
	if f.Calls() != 6 {
		t.Errorf("%d calls", f.Calls())
	}

	// The count is exact for calls from many goroutines.
	f.Fail(10, 7)
	var bad atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				if _, err := s.Run(t.Context(), nil); err != nil {
					bad.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if bad.Load() != 7 || f.Calls() != 106 {
		t.Errorf("%d of %d calls failed", bad.Load(), f.Calls())
	}
}
