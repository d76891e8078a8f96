package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// value is a tensor in the memory of a device.
type value struct {
	b      *Backend
	from   *arena
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
	s.arena.keep()
	return &value{b: s.b, from: s.arena, device: s.device, dtype: p.DType, shape: slices.Clone(p.Shape), handle: h}, nil
}

func (v *value) DType() tensor.DType { return v.dtype }
func (v *value) Shape() []int        { return v.shape }

// Host copies the tensor into the memory of the process.
func (v *value) Host(ctx context.Context) (*tensor.Tensor, error) {
	if v.from.foreign {
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
	return a.check(a.createDeviceTensor(s.arena.allocator, &shape[0], uintptr(len(p.Shape)), onnxDType(p.DType), out))
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

var _ backend.Value = (*value)(nil)
