package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// allocator is the allocator of a session. The tensors that it has allocated use it
// when they are released, which may be after the session.
type allocator struct {
	a      *api
	handle handle
	users  atomic.Int32 // the session and the tensors
	shared bool         // it belongs to the environment, and is not released
}

func newAllocator(a *api, h handle) *allocator {
	l := &allocator{a: a, handle: h}
	l.users.Store(1)
	return l
}

// release ends the use by the session or by a tensor.
func (l *allocator) release() {
	if l.users.Add(-1) == 0 && !l.shared {
		l.a.releaseAllocator(l.handle)
	}
}

// value is a tensor in the memory of a device.
type value struct {
	b      *Backend
	from   *allocator
	device string
	dtype  tensor.DType
	shape  []int

	mu     sync.Mutex // guards handle against Close
	handle handle     // OrtValue; 0 after Close
}

// newValue takes over an OrtValue on a device.
func (s *session) newValue(h handle, p backend.Port) (*value, error) {
	if err := s.b.users.Enter(); err != nil {
		return nil, fault.Internal.Wrap("keep output "+p.Name, err)
	}
	s.allocator.users.Add(1)
	return &value{b: s.b, from: s.allocator, device: s.device, dtype: p.DType, shape: slices.Clone(p.Shape), handle: h}, nil
}

func (v *value) DType() tensor.DType { return v.dtype }
func (v *value) Shape() []int        { return v.shape }

// Host copies the tensor into the memory of the process.
func (v *value) Host(ctx context.Context) (*tensor.Tensor, error) {
	if v.from.shared {
		return v.download(ctx)
	}
	out, err := v.b.copy(ctx, v.device, v, nil)
	if err != nil {
		return nil, err
	}
	t, _ := backend.HostTensor(out)
	return t, nil
}

// Close releases the tensor.
func (v *value) Close() error {
	turn := turnOf(v.device)
	_ = turn.take(context.Background()) // it never ends
	defer turn.give()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.handle != 0 {
		v.b.api.releaseValue(v.handle)
		v.from.release()
		v.b.users.Leave()
	}
	v.handle = 0
	return nil
}

// takes returns an error if v is not a tensor for this session.
func (s *session) takes(v *value) error {
	switch {
	case v.handle == 0:
		return errors.New("it is closed")
	case v.b != s.b || v.device != s.device:
		return fmt.Errorf("it is on device %s, and the session is on %s", v.device, s.device)
	}
	return nil
}

// allocate creates a tensor of the shape of an output in the memory that the session
// computes in.
func (s *session) allocate(p backend.Port, out *handle) error {
	shape := make([]int64, len(p.Shape)+1) // one more, so that there is an address
	for i, d := range p.Shape {
		shape[i] = int64(d)
	}
	a := s.b.api
	return a.check(a.createDeviceTensor(s.allocator.handle, &shape[0], uintptr(len(p.Shape)), onnxDType(p.DType), out))
}

// Upload copies a tensor to a device. On the CPU it returns the tensor itself.
func (b *Backend) Upload(ctx context.Context, device string, t *tensor.Tensor) (backend.Value, error) {
	if device == "cpu" {
		return backend.InHost(t), nil
	}
	on, err := b.device(device)
	if err != nil {
		return nil, err
	}
	if on.plugin != 0 {
		return b.upload(ctx, on, t)
	}
	return b.copy(ctx, device, backend.InHost(t), func(string) bool { return true })
}

// copy copies a tensor to or from a device: with keep to it, else from it. The library
// copies the inputs and outputs of any session as necessary, for every kind of device;
// so the copy is a session that does nothing else.
func (b *Backend) copy(ctx context.Context, device string, v backend.Value, keep func(string) bool) (backend.Value, error) {
	g := onnx.New("copy")
	g.Output("y", g.Input("x", v.DType(), v.Shape()...), v.DType(), v.Shape()...)
	s, err := b.Load(ctx, backend.Model{Name: "copy", Graph: g}, backend.Options{Device: device, Threads: 1, Resident: true})
	if err != nil {
		return nil, err
	}
	out, err := s.RunValues(ctx, map[string]backend.Value{"x": v}, keep)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return out["y"], nil
}

var _ backend.Value = (*value)(nil)
