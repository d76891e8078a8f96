// Package lip defines Engine, which draws speaking mouths. internal/preview and
// internal/latentsync implement it; lip/liptest tests them.
package lip

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// Engine makes faces speak, frame by frame.
//
// It edits the frames of items in place, and only inside the face mask. It does
// not change items without a face. If a face turns out to be unusable, the engine
// removes it from its item (Face = nil) and does not change the frame.
type Engine interface {
	// Name returns the name for the result's metadata: "preview", "latentsync 1.6".
	Name() string
	// Hold returns the largest number of items that the engine holds: those that
	// it has to see before it can finish an earlier one.
	Hold() int
	// Push takes the next item and returns the items that only need their Finish,
	// oldest first. The list is valid until the next call.
	Push(ctx context.Context, it Item) ([]Item, error)
	// Flush returns the items still held, at the end of the video.
	Flush(ctx context.Context) ([]Item, error)
	Close() error
}

// Item is one frame of work.
type Item struct {
	Frame *frame.Frame
	// Face is the face in this frame, or nil if there is none that can be used.
	Face *face.Face
	// Cut is true where a new shot or a new track begins. The engine must not use
	// anything learned from earlier frames.
	Cut bool

	// finish does the rest of the work on the frame.
	finish func()
}

// Later leaves work on the frame to the receiver of the item, so that a device does
// not wait for work that the CPU does on frames.
func (it *Item) Later(work func()) { it.finish = work }

// Finish does the work that the engine has left. The receiver of an item must call
// it before using the frame, from any goroutine. A second call does nothing.
func (it *Item) Finish() {
	if it.finish != nil {
		it.finish()
		it.finish = nil
	}
}

// Worker is an Engine that reports what its work took, at any time and from any
// goroutine.
type Worker interface {
	// Work returns the parts of the work, in the order of a frame.
	Work() []Work
	// Steady returns the time from the end of the first window to that of the
	// last, and how much of it the device computed. Both are 0 before the second
	// window is done.
	Steady() (wall, busy time.Duration)
}

// Work is what one part of an engine's work has taken so far.
type Work struct {
	Name   string        // "UNet", "VAE decoder"
	Calls  int64         // how often
	Busy   time.Duration // in it, all calls together
	Memory int64         // bytes held while it worked, as far as the backend can tell; 0 unknown
}
