package openvino

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Run computes the model once.
func (s *session) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return native.Compute(ctx, &s.Session, backend.Values(in), func() (map[string]*tensor.Tensor, error) { return s.run(ctx, in) })
}

// RunValues computes the model once, in the memory of the process.
func (s *session) RunValues(ctx context.Context, in map[string]backend.Value, _ func(string) bool) (map[string]backend.Value, error) {
	return backend.RunInHost(ctx, s, in)
}

func (s *session) run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if s.request == 0 {
		if err := s.again(ctx); err != nil {
			return nil, err
		}
	}
	// The request keeps pointers to the tensors after this Run, but uses them only in
	// the next one, which first sets all of them again.
	for i, p := range s.In {
		if err := s.set(s.b.api.setInput, uintptr(i), in[p.Name]); err != nil {
			return nil, fault.Internal.Wrap("set input "+p.Name, err)
		}
	}
	out := make(map[string]*tensor.Tensor, len(s.Out))
	for i, p := range s.Out {
		if !known(p.Shape) {
			continue
		}
		out[p.Name] = tensor.New(p.DType, p.Shape...)
		if err := s.set(s.b.api.setOutput, uintptr(i), out[p.Name]); err != nil {
			return nil, fault.Internal.Wrap("set output "+p.Name, err)
		}
	}
	var err error
	s.growth.MeasureRun(func() { err = s.compute(ctx) })
	runtime.KeepAlive(in) // the request uses the tensors' memory
	runtime.KeepAlive(out)
	if err != nil {
		s.failed(err)
		return nil, err
	}
	for i, p := range s.Out {
		if out[p.Name] != nil {
			continue
		}
		if out[p.Name], err = s.copyOut(uintptr(i)); err != nil {
			return nil, fault.Internal.Wrap("read output "+p.Name, err)
		}
	}
	return out, nil
}

// failed releases a compiled model after a failed allocation, because it would fail
// from then on, whatever the shapes of its inputs. The next Run compiles it again.
func (s *session) failed(err error) {
	if st, ok := errors.AsType[*backend.Status](err); ok && backend.OutOfMemory(st.Text) {
		s.growth.Measure(s.drop)
	}
}

// again compiles the model after failed. The caller has acquired the session.
func (s *session) again(ctx context.Context) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return native.ErrClosed
	}
	err := s.load(ctx, s.source, s.options)
	if err != nil {
		s.drop()
	}
	return err
}

// drop releases the compiled model.
func (s *session) drop() {
	s.b.mapped(func() {
		if s.request != 0 {
			s.b.api.requestFree(s.request)
		}
		if s.compiled != 0 {
			s.b.api.compiledFree(s.compiled)
		}
	})
	s.request, s.compiled = 0, 0
}

// known reports whether the shape of an output is known before it is computed. It is
// then computed directly into the tensor that the caller gets.
func known(shape []int) bool {
	for _, d := range shape {
		if d <= 0 {
			return false
		}
	}
	return len(shape) > 0
}

// compute runs the request and waits for its end, also after cancelling it because
// ctx has ended.
func (s *session) compute(ctx context.Context) error {
	a := s.b.api
	if err := a.check(a.start(s.request)); err != nil {
		return err
	}
	// Only a started request can be cancelled, so AfterFunc must come after start.
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		_ = a.check(a.cancel(s.request)) // if that fails, wait just takes longer
	})
	err := a.check(a.wait(s.request))
	if !stop() {
		<-cancelled
		if err != nil {
			return ctx.Err()
		}
	}
	if st, ok := errors.AsType[*backend.Status](err); ok && st.Code == statusCancelled && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// set makes t's memory input or output i of the request.
func (s *session) set(put func(request handle, i uintptr, t handle) int32, i uintptr, t *tensor.Tensor) error {
	a := s.b.api
	dims := make([]int64, len(t.Shape)+1) // one more, so that there is an address
	for i, d := range t.Shape {
		dims[i] = int64(d)
	}
	data := unsafe.Pointer(&dims[0]) // for a tensor of no elements: any address
	if len(t.Data) > 0 {
		data = unsafe.Pointer(&t.Data[0])
	}
	var v handle
	err := a.check(a.tensorFromHost(elementType(t.DType),
		shape{rank: int64(len(t.Shape)), dims: unsafe.Pointer(&dims[0])}, data, &v))
	if err != nil {
		return err
	}
	defer a.tensorFree(v) // the request has its own reference
	return a.check(put(s.request, i, v))
}

// copyOut copies an output of the request into a tensor.
func (s *session) copyOut(i uintptr) (*tensor.Tensor, error) {
	a := s.b.api
	var v handle
	if err := a.check(a.getOutput(s.request, i, &v)); err != nil {
		return nil, err
	}
	defer a.tensorFree(v)
	var code int32
	if err := a.check(a.tensorType(v, &code)); err != nil {
		return nil, err
	}
	dtype, ok := dtypes[code]
	if !ok {
		return nil, fmt.Errorf("elements of OpenVINO type %d are not supported", code)
	}
	out, err := a.shapeOf(v)
	if err != nil {
		return nil, err
	}
	t := tensor.New(dtype, out...)
	var n uintptr
	if err := a.check(a.tensorBytes(v, &n)); err != nil {
		return nil, err
	}
	if int(n) != len(t.Data) {
		return nil, fmt.Errorf("it holds %d bytes, its shape %v needs %d", n, out, len(t.Data))
	}
	if n == 0 {
		return t, nil
	}
	var data *byte
	if err := a.check(a.tensorData(v, &data)); err != nil {
		return nil, err
	}
	copy(t.Data, unsafe.Slice(data, n))
	return t, nil
}

// shapeOf returns the shape of a tensor.
func (a *api) shapeOf(v handle) ([]int, error) {
	var dims shape
	status := a.tensorShape(v, &dims)
	if status == statusBadParam {
		return []int{}, nil // ov_shape_t cannot hold the shape of a scalar
	}
	if err := a.check(status); err != nil {
		return nil, err
	}
	out := make([]int, dims.rank)
	if len(out) > 0 {
		for i, d := range unsafe.Slice((*int64)(dims.dims), len(out)) {
			out[i] = int(d)
		}
	}
	return out, a.check(a.shapeFree(&dims))
}
