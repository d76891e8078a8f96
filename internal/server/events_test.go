package server

import (
	"errors"
	"testing"

	"github.com/lipstream/lipstream/internal/queue"
)

// TestEndIsOnBoard reads the last event of a job while the board is behind, because
// nobody writes to it.
func TestEndIsOnBoard(t *testing.T) {
	t.Parallel()
	q := newRig(t, nil).s.o.Queue
	s := &Server{o: Options{Queue: q}, board: newBoard()}
	j, err := q.Submit(t.Context(), queue.Job{ID: queue.NewID(), Engine: "preview"})
	_, cancelErr := q.Cancel(t.Context(), j.ID)
	if err := errors.Join(err, cancelErr); err != nil {
		t.Fatal(err)
	}
	last := false
	if err := s.events(t.Context(), j.ID, 0, func(e queue.Event) error {
		v, _ := s.board.get(j.ID)
		if last = e.Last; last && v.State != queue.Cancelled {
			t.Errorf("the board has the state %q", v.State)
		}
		return nil
	}); err != nil || !last {
		t.Error(last, err)
	}
}
