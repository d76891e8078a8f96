package job

import (
	"context"
	"errors"
	"testing"
)

// TestTogether checks that both functions have ended, that the error is that of the first
// to fail, and that it ends the other.
func TestTogether(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	failed := errors.New("failed")
	fail := func(context.Context) error { return failed }
	ended := 0
	fine := func(context.Context) error { ended++; return nil }
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx       context.Context
		beside, f func(context.Context) error
		want      error
	}{
		"beside fails": {t.Context(), fail, wait, failed},
		"f fails":      {t.Context(), wait, fail, failed},
		"cancelled":    {cancelled, wait, wait, context.Canceled},
	} {
		if err := together(c.ctx, c.beside, c.f); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := together(t.Context(), func(context.Context) error { return nil }, fine); err != nil || ended != 1 {
		t.Errorf("%v", err)
	}
	slow := false
	if err := together(t.Context(), func(ctx context.Context) error { <-ctx.Done(); slow = true; return nil }, fail); err != failed || !slow {
		t.Errorf("%v; the other has ended: %v", err, slow)
	}
}
