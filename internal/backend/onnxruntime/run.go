package onnxruntime

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Run computes the model once.
func (s *session) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	out, err := s.RunValues(ctx, backend.Values(in), nil)
	if err != nil {
		return nil, err
	}
	return backend.Tensors(ctx, out)
}

// RunValues computes the model once. Outputs that are kept stay in the memory of the
// device.
func (s *session) RunValues(ctx context.Context, in map[string]backend.Value, keep func(string) bool) (map[string]backend.Value, error) {
	return native.Compute(ctx, &s.Session, in, func() (map[string]backend.Value, error) {
		turn := turnOf(s.device)
		if err := turn.take(ctx); err != nil {
			return nil, err
		}
		defer turn.give()
		return s.run(ctx, in, keep)
	})
}

func (s *session) run(ctx context.Context, in map[string]backend.Value, keep func(string) bool) (map[string]backend.Value, error) {
	if s.handle == 0 {
		return nil, native.ErrClosed
	}
	a := s.b.api
	values := make([]handle, len(s.In)+1)
	results := make([]handle, len(s.Out)+1)
	owned := make([]bool, len(s.In)) // of the values, those that belong to this Run
	defer func() {
		for i, v := range values[:len(s.In)] {
			if v != 0 && owned[i] {
				a.releaseValue(v)
			}
		}
		for _, v := range results {
			if v != 0 {
				a.releaseValue(v)
			}
		}
	}()
	for i, p := range s.In {
		if v, ok := in[p.Name].(*value); ok {
			if err := s.takes(v); err != nil {
				return nil, fault.Internal.Wrap("use input "+p.Name, err)
			}
			values[i] = v.handle
			continue
		}
		t, err := in[p.Name].Host(ctx)
		if err != nil {
			return nil, err
		}
		owned[i] = true
		if err := s.wrap(t, &values[i]); err != nil {
			return nil, err
		}
	}
	kept := make([]bool, len(s.Out))
	for i, p := range s.Out {
		// A shape that is not known beforehand cannot be allocated.
		if kept[i] = s.resident && keep != nil && keep(p.Name) && known(p.Shape); kept[i] {
			if err := s.allocate(p, &results[i]); err != nil {
				return nil, err
			}
		}
	}
	if err := s.execute(ctx, values, results); err != nil {
		return nil, explain(s.device, err)
	}
	runtime.KeepAlive(in) // the values point into the tensors
	out := make(map[string]backend.Value, len(s.Out))
	for i, p := range s.Out {
		if kept[i] {
			v, err := s.newValue(results[i], p)
			if err != nil {
				return nil, err
			}
			out[p.Name], results[i] = v, 0
			continue
		}
		t, err := s.copyOut(results[i])
		if err != nil {
			return nil, fault.Internal.Wrap("read output "+p.Name, err)
		}
		out[p.Name] = backend.InHost(t)
	}
	return out, nil
}

// known reports whether a shape has no free dimensions.
func known(shape []int) bool {
	return shape != nil && !slices.ContainsFunc(shape, func(d int) bool { return d < 0 })
}

// execute calls the library, and stops it when ctx ends.
func (s *session) execute(ctx context.Context, values, results []handle) error {
	a := s.b.api
	options, shrinks := s.options, s.shrinking != 0 && s.arena.shrink.Swap(false)
	if shrinks {
		options = s.shrinking
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = a.check(a.setTerminate(options)) // only fails for nil
	})
	inNames, outNames := append(s.inNames, nil), append(s.outNames, nil)
	var err error
	measure := s.growth.MeasureRun
	if s.counts {
		measure = func(f func()) { f() } // the allocator counts exactly
	}
	measure(func() {
		err = a.check(a.run(s.handle, options, &inNames[0], &values[0], uintptr(len(s.In)),
			&outNames[0], uintptr(len(s.Out)), &results[0]))
	})
	if s.arena.shared {
		s.arena.account(s)
	}
	if shrinks && err != nil {
		s.arena.shrink.Store(true) // the Run may have ended before it
	}
	if !stop() {
		<-terminated
		if clear := a.check(a.unsetTerminate(options)); clear != nil {
			return clear
		}
		// A GPU may have taken in all of the work already. Then the Run ends only when
		// that is done, as if it had not been stopped.
		if err != nil || s.device != "cpu" {
			return ctx.Err()
		}
	}
	return err
}

// wrap creates an OrtValue that uses the memory of t.
func (s *session) wrap(t *tensor.Tensor, out *handle) error {
	shape := make([]int64, len(t.Shape)+1) // one more, so that there is an address
	for i, d := range t.Shape {
		shape[i] = int64(d)
	}
	data := unsafe.Pointer(&shape[0]) // for a tensor of no elements: any address
	if len(t.Data) > 0 {
		data = unsafe.Pointer(&t.Data[0])
	}
	a := s.b.api
	return a.check(a.createTensor(s.b.memInfo, data, uintptr(len(t.Data)),
		&shape[0], uintptr(len(t.Shape)), onnxDType(t.DType), out))
}

// copyOut copies an OrtValue into a tensor.
func (s *session) copyOut(v handle) (*tensor.Tensor, error) {
	a := s.b.api
	var is int32
	if err := a.check(a.isTensor(v, &is)); err != nil {
		return nil, err
	}
	if is == 0 {
		return nil, errors.New("it is not a tensor")
	}
	var info handle
	if err := a.check(a.typeAndShape(v, &info)); err != nil {
		return nil, err
	}
	dtype, shape, err := a.describe(info)
	a.releaseTensorInfo(info)
	if err != nil {
		return nil, err
	}
	t := tensor.New(dtype, shape...)
	if len(t.Data) == 0 {
		return t, nil
	}
	var data *byte
	if err := a.check(a.tensorData(v, &data)); err != nil {
		return nil, err
	}
	copy(t.Data, unsafe.Slice(data, len(t.Data)))
	return t, nil
}

// Memory reports the session's arena as the library counts it, or its share of the arena
// that the sessions of its device have in common, and on a CPU an estimate of the weights
// outside it.
func (s *session) Memory() backend.Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && !s.counts {
		return s.growth.Memory()
	}
	if !s.closed && !s.arena.shared {
		s.arena.account(s)
	}
	s.arena.mu.Lock()
	defer s.arena.mu.Unlock()
	if s.closed {
		return backend.Memory{Peak: s.peak}
	}
	return backend.Memory{Held: s.share + s.outside, Peak: max(s.peak, s.share+s.outside), Exact: s.exact}
}

// Close waits for a running Run and releases the session. It may be called
// more than once.
func (s *session) Close() error {
	defer s.Acquire()()
	turn := turnOf(s.device)
	_ = turn.take(context.Background()) // it never ends
	defer turn.give()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	a := s.b.api
	for _, o := range []handle{s.options, s.shrinking} {
		if o != 0 {
			a.releaseRunOptions(o)
		}
	}
	if s.handle != 0 {
		a.releaseSession(s.handle)
	}
	s.handle = 0
	if s.arena != nil {
		s.arena.leave(s)
		s.arena.release()
	}
	s.dropProfile()
	s.b.users.Leave()
	return nil
}

// Shrink makes the arena return unused memory at the end of the next Run of a session that
// uses it, which is the only time at which the library can.
func (s *session) Shrink() { s.arena.shrink.Store(true) }
