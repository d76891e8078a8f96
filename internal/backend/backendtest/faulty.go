package backendtest

import (
	"context"
	"sync"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Faulty is a backend whose allocations fail on demand: every Load and every Run
// of a session is a call, counted from 1.
type Faulty struct {
	backend.Backend

	mu       sync.Mutex
	calls    int
	from, to int // calls from (inclusive) to (exclusive) fail
}

// NewFaulty wraps a backend. No call fails before Fail.
func NewFaulty(b backend.Backend) *Faulty { return &Faulty{Backend: b} }

// Fail makes n calls fail, beginning with the k-th from now on, with the error of
// kind Memory that the runtimes return.
func (f *Faulty) Fail(k, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from = f.calls + k
	f.to = f.from + n
}

// Calls returns the number of calls so far.
func (f *Faulty) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *Faulty) call(op, model string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls >= f.from && f.calls < f.to {
		return backend.Fault(fault.Internal, op, model, &backend.Status{Code: -1, Text: "std::bad_alloc"}, "")
	}
	return nil
}

// Load implements backend.Backend.
func (f *Faulty) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if err := f.call("load model", m.Name); err != nil {
		return nil, err
	}
	s, err := f.Backend.Load(ctx, m, o)
	if err != nil {
		return nil, err
	}
	return faultySession{s, f, m.Name}, nil
}

type faultySession struct {
	backend.Session
	f     *Faulty
	model string
}

// Run implements backend.Session.
func (s faultySession) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if err := s.f.call("run model", s.model); err != nil {
		return nil, err
	}
	return s.Session.Run(ctx, in)
}

// RunValues implements backend.Session.
func (s faultySession) RunValues(ctx context.Context, in map[string]backend.Value, keep func(string) bool) (map[string]backend.Value, error) {
	if err := s.f.call("run model", s.model); err != nil {
		return nil, err
	}
	return s.Session.RunValues(ctx, in, keep)
}
