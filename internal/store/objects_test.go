package store_test

import (
	"testing"

	"github.com/lipstream/lipstream/internal/queue"
	"github.com/lipstream/lipstream/internal/store"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	q, err := queue.Open(t.Context(), queue.Options{Dir: t.TempDir(), Lead: true, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	s, err := store.Open(t.Context(), "objects:", q.JetStream(), 1)
	if err != nil {
		t.Fatal(err)
	}
	conform(t, s)
	conformReplaced(t, s)
}
