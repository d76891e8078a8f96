package backendtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Cached is a backend that compiles each model once for all tests of a package,
// because compiling takes longer than most tests. Closing a session leaves it in the
// cache; closing the backend closes all sessions.
type Cached struct {
	backend.Backend

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]backend.Session
	weights  map[[sha256.Size]byte]*tensor.Tensor
}

// NewCached wraps a backend.
func NewCached(b backend.Backend) *Cached {
	return &Cached{Backend: b, sessions: map[[sha256.Size]byte]backend.Session{}, weights: map[[sha256.Size]byte]*tensor.Tensor{}}
}

// Load implements backend.Backend.
func (c *Cached) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if err := ctx.Err(); err != nil {
		return c.Backend.Load(ctx, m, o)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %+v\n", m.Name, m.Path, o)
	hash.Write(m.Bytes)
	if m.Graph != nil {
		list := m.Graph.Weights()
		for i := range list {
			list[i].Tensor = c.keep(list[i].Tensor)
		}
		hash.Write(m.Graph.Encode(func(w onnx.Weight) (string, uint64) { return fmt.Sprintf("%p", w.Tensor), 0 }))
	}
	key := [sha256.Size]byte(hash.Sum(nil))
	s := c.sessions[key]
	if s == nil {
		var err error
		if s, err = c.Backend.Load(ctx, m, o); err != nil {
			return nil, err
		}
		c.sessions[key] = s
	}
	return cachedSession{s}, nil
}

// keep returns a copy of t, the same for equal tensors. The session outlives the
// checkpoint that t may be mapped from.
func (c *Cached) keep(t *tensor.Tensor) *tensor.Tensor {
	key := sha256.Sum256(fmt.Appendf(nil, "%v %v %x", t.DType, t.Shape, sha256.Sum256(t.Data)))
	if c.weights[key] == nil {
		c.weights[key] = &tensor.Tensor{DType: t.DType, Shape: slices.Clone(t.Shape), Data: slices.Clone(t.Data)}
	}
	return c.weights[key]
}

// Close implements backend.Backend.
func (c *Cached) Close() error {
	var errs []error
	for _, s := range c.sessions {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.Backend.Close())...)
}

type cachedSession struct{ backend.Session }

// Close implements backend.Session.
func (cachedSession) Close() error { return nil }
