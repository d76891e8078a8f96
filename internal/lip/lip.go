// Package lip is what makes mouths: the Engine interface, implemented by
// internal/preview and internal/latentsync, checked by lip/liptest.
package lip

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// Engine turns faces into speaking faces, in order.
//
// It edits the frames of items in place, inside the face mask only. Items
// without a face are left as they are. A face that turns out to be of no use
// is taken out of its item (Face = nil) and its frame left as it is.
type Engine interface {
	// Name is what the result's metadata says: "preview", "latentsync 1.6".
	Name() string
	// Hold is how many items the engine keeps back at most: those that it has
	// to see before it can finish an earlier one.
	Hold() int
	// Push takes the next item and gives the ones that are done but for their
	// Finish, oldest first. The list is valid until the next call.
	Push(ctx context.Context, it Item) ([]Item, error)
	// Flush finishes what is held, at the end of the video.
	Flush(ctx context.Context) ([]Item, error)
	Close() error
}

// Item is one frame of work.
type Item struct {
	Frame *frame.Frame
	// Face in this frame, nil when there is none that can be used.
	Face *face.Face
	// Cut is true where a new shot or a new track begins: nothing learned of
	// the frames before may be carried over.
	Cut bool

	// finish is what is left to do to the frame.
	finish func()
}

// Later leaves work on the frame of an item that the engine gives out to whoever
// takes it: so a device does not wait for what a CPU does to frames.
func (it *Item) Later(work func()) { it.finish = work }

// Finish does what the engine has left. Whoever takes an item from an engine
// calls it before looking at the frame, from any goroutine; again it does
// nothing.
func (it *Item) Finish() {
	if it.finish != nil {
		it.finish()
		it.finish = nil
	}
}

// Worker is an Engine that can tell what its work took, at any time and from
// any goroutine.
type Worker interface {
	// Work lists the parts of the work, in the order in which a frame meets them.
	Work() []Work
	// Steady tells of the time between the first window and the last: how long
	// it was, and for how much of it the device computed. 0 before the second
	// window is done.
	Steady() (wall, busy time.Duration)
}

// Work is what one part of an engine's work took so far.
type Work struct {
	Name   string        // "UNet", "VAE decoder"
	Calls  int64         // how often
	Busy   time.Duration // in it, all calls together
	Memory int64         // bytes held while it worked, as far as the backend can tell; 0 unknown
}
