// Package cluster deals with NATS servers that are not available for a while: their
// connection is lost, they restart, or they elect a new leader.
package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Patience is how long an operation is tried again. A cluster that has lost a server
// takes 4 to 10 seconds to elect a new leader.
const Patience = 45 * time.Second

// Error codes of NATS.
const (
	noPeers      = 10005 // fewer servers than replicas
	unavailable  = 10008 // no leader at present
	notLeader    = 10009
	noResources  = 10023 // a limit of the server, such as that of its disk
	noMemory     = 10028
	noStorage    = 10047
	notClustered = 10074 // replicas without a cluster
	notStored    = 10077 // such as when a limit of the stream is reached
)

func code(err error) jetstream.ErrorCode {
	e, ok := errors.AsType[jetstream.JetStreamError](err)
	if !ok || e.APIError() == nil {
		return 0
	}
	return e.APIError().ErrorCode
}

// TooSmall reports whether an error says that there are fewer servers than replicas.
func TooSmall(err error) bool {
	c := code(err)
	return c == noPeers || c == notClustered
}

// Full reports whether an error says that a server has no room for more.
func Full(err error) bool {
	c := code(err)
	return c == noResources || c == noMemory || c == noStorage
}

// NotStored reports whether an error says that a stream does not take a message,
// such as when the stream is as large as it may be.
func NotStored(err error) bool { return code(err) == notStored }

// Passing reports whether an error of NATS passes by itself.
func Passing(err error) bool {
	for _, e := range []error{nats.ErrTimeout, context.DeadlineExceeded, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
		jetstream.ErrNoStreamResponse, jetstream.ErrNoHeartbeat, jetstream.ErrServerShutdown} {
		if errors.Is(err, e) {
			return true
		}
	}
	c := code(err)
	return c == unavailable || c == notLeader
}

// attempt is how long an attempt may take: an answer may have been lost.
const attempt = 5 * time.Second

// Persist calls f until its error does not pass by itself, or is nil, for the time of
// Patience.
func Persist[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	return While(ctx, Passing, func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		return f(ctx)
	})
}

// While is Persist for the errors that passing reports, without a limit for an attempt.
func While[T any](ctx context.Context, passing func(error) bool, f func() (T, error)) (T, error) {
	end := time.Now().Add(Patience)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		v, err := f()
		if err == nil || !passing(err) || ctx.Err() != nil || time.Now().After(end) {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(pause):
		}
	}
}
