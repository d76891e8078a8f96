package native

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
)

// ErrClosed is returned by a session that is used after its Close.
var ErrClosed = errors.New("the session is closed")

// Users counts the sessions and queries that use a library, so that it is not
// released under them. The zero value is ready for use.
type Users struct {
	mu     sync.Mutex
	n      int
	closed bool
}

// Enter counts a user. It fails after Close.
func (u *Users) Enter() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return errors.New("the backend is closed")
	}
	u.n++
	return nil
}

// Leave ends a user's Enter.
func (u *Users) Leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n--
}

// Close calls release, at the first call only. It fails while there are users.
func (u *Users) Close(library string, release func()) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	if u.n > 0 {
		return fault.Internal.New("close "+library, fmt.Sprintf("%d sessions are still open", u.n))
	}
	u.closed = true
	release()
	return nil
}

// Session is the part of a backend.Session that does not depend on the library.
type Session struct {
	Model   string
	In, Out []backend.Port
	turn    chan struct{} // holds a value while a Run or Close is at work
}

// NewSession returns the common part of a session of the named model.
func NewSession(model string) Session {
	return Session{Model: model, turn: make(chan struct{}, 1)}
}

// Inputs returns the inputs of the model, in its own order.
func (s *Session) Inputs() []backend.Port { return s.In }

// Outputs returns the outputs of the model, in its own order.
func (s *Session) Outputs() []backend.Port { return s.Out }

// Acquire waits until no other call uses the session. The caller must call
// release.
func (s *Session) Acquire() (release func()) {
	s.turn <- struct{}{}
	return func() { <-s.turn }
}

// Compute checks the inputs and calls compute when no other call uses the session.
// Errors get the name of the model.
func Compute[T any](ctx context.Context, s *Session, in map[string]backend.Value, compute func() (T, error)) (T, error) {
	out, err := func() (T, error) {
		var none T
		if err := backend.CheckInputs(s.Model, s.In, in); err != nil {
			return none, err
		}
		if err := ctx.Err(); err != nil {
			return none, err
		}
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		case <-ctx.Done():
			return none, ctx.Err()
		}
		return compute()
	}()
	if err != nil {
		return out, backend.Fault(fault.KindOf(err), "run model", s.Model, err, "")
	}
	return out, nil
}
