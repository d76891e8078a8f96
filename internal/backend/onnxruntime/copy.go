package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// maxCopies is the number of idle sessions for copies that a Backend keeps. A job copies
// tensors of about five shapes. On CUDA each session has cuBLAS handles of its own.
const maxCopies = 8

// copies are sessions for copies that nobody uses at the moment, the least recently used
// first.
type copies struct {
	mu   sync.Mutex
	idle []copySession
}

// copySession copies tensors of one type and shape to or from a device.
type copySession struct {
	backend.Session
	device string
	dtype  tensor.DType
	shape  string
}

// take returns an idle session like want, or false.
func (c *copies) take(want copySession) (copySession, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.idle {
		if s.device == want.device && s.dtype == want.dtype && s.shape == want.shape {
			c.idle = append(c.idle[:i], c.idle[i+1:]...)
			return s, true
		}
	}
	return copySession{}, false
}

// put keeps a session, and closes the least recently used one if there are too many.
func (c *copies) put(s copySession) error {
	c.mu.Lock()
	c.idle = append(c.idle, s)
	var oldest backend.Session
	if len(c.idle) > maxCopies {
		oldest = c.idle[0].Session
		c.idle = c.idle[1:]
	}
	c.mu.Unlock()
	if oldest != nil {
		return oldest.Close()
	}
	return nil
}

// clear closes the idle sessions.
func (c *copies) clear() error {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	var errs []error
	for _, s := range idle {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// copy copies a tensor to a device if keep returns true, else from it. It runs a session
// that returns its input, because the library copies inputs and outputs of any session to
// where they are needed. CopyTensors does so only for providers that are plugins, and the
// CUDA provider is not one.
//
// The session has no arena limit of its own. It uses the arena of the networks, which a job
// loads before it copies.
func (b *Backend) copy(ctx context.Context, device string, v backend.Value, keep func(string) bool) (backend.Value, error) {
	s, ok := b.copies.take(copySession{device: device, dtype: v.DType(), shape: fmt.Sprint(v.Shape())})
	if !ok {
		g := onnx.New("copy")
		g.Output("y", g.Input("x", v.DType(), v.Shape()...), v.DType(), v.Shape()...)
		loaded, err := b.Load(ctx, backend.Model{Name: "copy", Graph: g}, backend.Options{Device: device, Threads: 1, Resident: true})
		if err != nil {
			return nil, err
		}
		s = copySession{loaded, device, v.DType(), fmt.Sprint(v.Shape())}
	}
	out, err := s.RunValues(ctx, map[string]backend.Value{"x": v}, keep)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return out["y"], b.copies.put(s)
}
