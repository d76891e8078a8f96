package backend

import (
	"context"

	"github.com/lipstream/lipstream/internal/tensor"
)

// Value is a tensor that goes into a session or comes out of one. It is in the memory of
// the process, or in that of a device; then only sessions of the same backend and device
// can take it.
type Value interface {
	DType() tensor.DType
	Shape() []int
	// Host returns the tensor in the memory of the process. If it is already there,
	// it is not copied.
	Host(ctx context.Context) (*tensor.Tensor, error)
	// Close releases the memory of the device. It may be called more than once, and
	// does nothing for a tensor in the memory of the process.
	Close() error
}

// InHost returns t as a Value.
func InHost(t *tensor.Tensor) Value { return hostValue{t} }

type hostValue struct{ t *tensor.Tensor }

func (v hostValue) DType() tensor.DType                          { return v.t.DType }
func (v hostValue) Shape() []int                                 { return v.t.Shape }
func (v hostValue) Host(context.Context) (*tensor.Tensor, error) { return v.t, nil }
func (v hostValue) Close() error                                 { return nil }

// HostTensor returns the tensor of a Value in the memory of the process, or false.
func HostTensor(v Value) (*tensor.Tensor, bool) {
	h, ok := v.(hostValue)
	return h.t, ok
}

// Values returns tensors as Values.
func Values(tensors map[string]*tensor.Tensor) map[string]Value {
	values := make(map[string]Value, len(tensors))
	for name, t := range tensors {
		if t != nil {
			values[name] = InHost(t)
		}
	}
	return values
}

// Tensors returns Values as tensors in the memory of the process, and closes them.
func Tensors(ctx context.Context, values map[string]Value) (map[string]*tensor.Tensor, error) {
	tensors := make(map[string]*tensor.Tensor, len(values))
	var first error
	for name, v := range values {
		t, err := v.Host(ctx)
		if e := v.Close(); err == nil {
			err = e
		}
		if err != nil && first == nil {
			first = err
		}
		tensors[name] = t
	}
	if first != nil {
		return nil, first
	}
	return tensors, nil
}

// RunInHost implements Session.RunValues with Session.Run, for sessions that compute in
// the memory of the process.
func RunInHost(ctx context.Context, s Session, in map[string]Value) (map[string]Value, error) {
	tensors := make(map[string]*tensor.Tensor, len(in))
	for name, v := range in {
		t, err := v.Host(ctx)
		if err != nil {
			return nil, err
		}
		tensors[name] = t
	}
	out, err := s.Run(ctx, tensors)
	if err != nil {
		return nil, err
	}
	return Values(out), nil
}
