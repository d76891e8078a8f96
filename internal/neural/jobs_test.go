package neural

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

// jobOptions returns the options of a job of a few frames with several windows.
type jobOptions func(t testing.TB, b backend.Backend) Options

// jobs are those of each engine, with images as small as it takes.
var jobs = map[string]jobOptions{
	"latentsync": func(t testing.TB, b backend.Backend) Options {
		o := small(t, b)
		o.Resolution = 64
		return o
	},
	"musetalk": quickMuseTalk,
}

// onOneEngine is onOne for each engine.
func onOneEngine(t *testing.T, test func(t *testing.T, b *backendtest.Cached, job jobOptions)) {
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		t.Run(name, func(t *testing.T) {
			onOne(t, func(t *testing.T, b *backendtest.Cached) { test(t, b, jobs[name]) })
		})
	}
}

// onEachEngine runs a test of LatentSync on each backend. That of MuseTalk, which has the
// same blocks, runs on one, or on each in a long run.
func onEachEngine(t *testing.T, test func(t *testing.T, b *backendtest.Cached, job jobOptions)) {
	t.Run("latentsync", func(t *testing.T) {
		onEach(t, func(t *testing.T, b *backendtest.Cached) { test(t, b, jobs["latentsync"]) })
	})
	t.Run("musetalk", func(t *testing.T) {
		onOne(t, func(t *testing.T, b *backendtest.Cached) { test(t, b, jobs["musetalk"]) })
	})
}

// watched is a backend that calls a function before each run of a session.
type watched struct {
	backend.Backend
	before func()
}

func (w watched) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	s, err := w.Backend.Load(ctx, m, o)
	return watchedSession{s, w.before}, err
}

type watchedSession struct {
	backend.Session
	before func()
}

func (s watchedSession) RunValues(ctx context.Context, in map[string]backend.Value, keep func(string) bool) (map[string]backend.Value, error) {
	s.before()
	return s.Session.RunValues(ctx, in, keep)
}
