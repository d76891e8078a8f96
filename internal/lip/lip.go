// Package lip is what makes mouths: the Engine interface, implemented by
// internal/preview and internal/latentsync, checked by lip/liptest.
package lip

import (
	"context"

	"github.com/lipstream/lipstream/internal/audio"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// Engine turns faces into speaking faces, chunk by chunk, in order.
type Engine interface {
	// Name is what the result's metadata says: "preview", "latentsync 1.6".
	Name() string
	// Chunk is how many items Process wants at a time; the last may be shorter.
	Chunk() int
	// Process edits the frames of the items in place, inside the face mask
	// only. Items without a face are left as they are. A face that turns out
	// to be of no use is taken out of its item (Face = nil) and its frame left
	// as it is.
	Process(ctx context.Context, items []Item) error
	Close() error
}

// Item is one frame of work.
type Item struct {
	Frame *frame.Frame
	// Face in this frame, nil when there is none that can be used.
	Face *face.Face
	// Mouth is what the driving audio asks for at this frame's time.
	Mouth audio.Mouth
	// Cut is true where a new shot or a new track begins: nothing learned of
	// the frames before may be carried over.
	Cut bool
}
