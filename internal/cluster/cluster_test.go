package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestPersist(t *testing.T) {
	final := errors.New("final")
	for _, c := range []struct {
		name   string
		errs   []error // of the calls; the last one repeats
		want   error
		calls  int // 0: not checked
		longer time.Duration
	}{
		{"success", []error{nil}, nil, 1, 0},
		{"passes", []error{nats.ErrNoResponders, fmt.Errorf("wrapped: %w", jetstream.ErrNoStreamResponse), nil}, nil, 3, 0},
		{"final", []error{nats.ErrTimeout, final}, final, 2, 0},
		{"never passes", []error{nats.ErrTimeout}, nats.ErrTimeout, 0, Patience},
	} {
		synctest.Test(t, func(t *testing.T) {
			calls, began := 0, time.Now()
			v, err := Persist(t.Context(), func(context.Context) (int, error) {
				calls++
				return calls, c.errs[min(calls, len(c.errs))-1]
			})
			if !errors.Is(err, c.want) || v != calls || c.calls != 0 && calls != c.calls || time.Since(began) < c.longer {
				t.Errorf("%s: %v after %d calls and %v", c.name, err, calls, time.Since(began))
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Persist(ctx, func(context.Context) (any, error) { cancel(); return nil, nats.ErrTimeout }); !errors.Is(err, nats.ErrTimeout) {
		t.Error(err)
	}
}

func TestCodes(t *testing.T) {
	coded := func(c jetstream.ErrorCode) error {
		return fmt.Errorf("wrapped: %w", &jetstream.APIError{ErrorCode: c})
	}
	for c, want := range map[jetstream.ErrorCode]string{noPeers: "too small", notClustered: "too small", unavailable: "passing", notLeader: "passing",
		noResources: "full", noMemory: "full", noStorage: "full", notStored: "not stored"} {
		for name, is := range map[string]func(error) bool{"too small": TooSmall, "passing": Passing, "full": Full, "not stored": NotStored} {
			if got := is(coded(c)); got != (name == want) {
				t.Errorf("code %d: %s is %v", c, name, got)
			}
		}
	}
	// An answer that is lost.
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		_, err := Persist(t.Context(), func(ctx context.Context) (any, error) {
			if calls++; calls == 3 {
				return nil, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if err != nil || calls != 3 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
	if Passing(nil) || TooSmall(nil) || Full(nil) || NotStored(nil) {
		t.Error("no error is an error")
	}
}
