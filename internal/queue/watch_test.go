package queue

import (
	"context"
	"testing"
)

// TestWatchAgain watches, stops, and watches again after a job was removed and another one stored.
func TestWatchAgain(t *testing.T) {
	t.Parallel()
	q := open(t, Options{})
	gone := submit(t, q, "")
	_, err := q.Cancel(t.Context(), gone.ID)
	check(t, err)
	board := map[string]bool{}
	// watch watches until id has the wanted state.
	watch := func(id string, exists bool) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		check(t, q.Watch(ctx, func(changed string, j *Job) {
			if board[changed] = j != nil; changed == id && board[id] == exists {
				cancel()
			}
		}))
	}
	watch(gone.ID, true)
	check(t, q.Remove(t.Context(), gone.ID))
	j := submit(t, q, "")
	watch(j.ID, true)
	if board[gone.ID] {
		t.Error("a removed job is still on the board")
	}
	// A removal that is seen while it happens.
	_, err = q.Cancel(t.Context(), j.ID)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	check(t, q.Watch(ctx, func(id string, now *Job) {
		switch {
		case now == nil && id == j.ID:
			cancel()
		case id == j.ID:
			check(t, q.Remove(t.Context(), id))
		}
	}))
}
