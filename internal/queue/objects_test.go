package queue

import (
	"testing"

	"github.com/lipstream/lipstream/internal/store"
	"github.com/lipstream/lipstream/internal/store/storetest"
)

// TestObjects is here because a NATS server is.
func TestObjects(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	s, err := store.Open(t.Context(), "objects:", q.JetStream())
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, s)
}
