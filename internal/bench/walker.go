package bench

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// frameReader is a video from package media.
type frameReader interface {
	Read(f *frame.Frame) error
	Close() error
}

// walker reads a video frame by frame and finds the face in it.
type walker struct {
	reader  frameReader
	tracker *face.Tracker
	format  frame.Format
	ready   []face.Tracked
	free    []*frame.Frame
	ended   bool
}

// newWalker returns a walker over r, which it closes on an error. The tracker follows
// the face that choice names.
func newWalker(ctx context.Context, nets backend.Backend, choice string, threads int, r frameReader, f frame.Format) (*walker, error) {
	var tracker *face.Tracker
	which, err := face.ParseChoice(choice)
	if err == nil {
		tracker, err = face.NewTracker(ctx, nets, face.Options{Choice: which, Threads: threads})
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &walker{reader: r, tracker: tracker, format: f}, nil
}

// next returns the next frame, which the caller releases, or io.EOF.
func (w *walker) next(ctx context.Context) (face.Tracked, error) {
	for len(w.ready) == 0 {
		if w.ended {
			return face.Tracked{}, io.EOF
		}
		f := w.frame()
		err := w.reader.Read(f)
		switch {
		case errors.Is(err, io.EOF):
			w.ended = true
			w.ready, err = w.tracker.Flush(ctx)
		case err == nil:
			w.ready, err = w.tracker.Push(ctx, f)
		}
		if err != nil {
			return face.Tracked{}, err
		}
	}
	t := w.ready[0]
	w.ready = w.ready[1:]
	return t, nil
}

func (w *walker) frame() *frame.Frame {
	if n := len(w.free); n > 0 {
		f := w.free[n-1]
		w.free = w.free[:n-1]
		return f
	}
	return frame.New(w.format)
}

func (w *walker) release(f *frame.Frame) { w.free = append(w.free, f) }

func (w *walker) close() {
	// Both were only read from.
	_ = w.reader.Close()
	_ = w.tracker.Close()
}

// Regions returns what an engine may change in each of the first n frames of a
// video, which it closes. A frame without a face is an error.
func Regions(ctx context.Context, nets backend.Backend, r frameReader, f frame.Format, n, threads int) ([]*Region, error) {
	w, err := newWalker(ctx, nets, "largest", threads, r, f)
	if err != nil {
		return nil, err
	}
	defer w.close()
	var out []*Region
	for i := range n {
		t, err := w.next(ctx)
		if err != nil {
			return nil, err
		}
		if t.Face == nil {
			return nil, fault.NoFace.New("find a face in the video", fmt.Sprintf("frame %d has none", i))
		}
		out = append(out, newMasker().mask(f, t.Face.Align)) // a masker's result is its own
		w.release(t.Frame)
	}
	return out, nil
}
