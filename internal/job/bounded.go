package job

import (
	"io"
	"sync/atomic"

	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
)

// bounded ends a sequence where the output ends.
type bounded struct {
	seq     *media.Sequence
	n       int64 // number of the next frame, in the whole output
	first   int64 // number of the first frame of the sequence
	end     int64 // number of the frame to stop at; -1: at the end of the output
	most    int64 // frames that a job may have; 0: any number
	path    string
	atLeast int64
	cut     bool

	known atomic.Int64 // length, for other goroutines
}

// length returns the number of frames of the output at which the video ends; 0
// before its end was read.
func (b *bounded) length() int64 {
	if n := b.seq.Length(); n > 0 {
		return n + b.first
	}
	return 0
}

// Read implements pipeline.Source.
func (b *bounded) Read(f *frame.Frame) error {
	if b.end >= 0 && b.n >= b.end {
		return io.EOF
	}
	if b.most > 0 && b.n >= b.most {
		return tooMany(b.path, b.most)
	}
	length := b.length()
	if b.n >= b.atLeast && (b.cut || length > 0 && b.n >= length) {
		return io.EOF
	}
	if err := b.seq.Read(f); err != nil {
		return err
	}
	// The sequence only knows after this read whether its video has ended and this
	// frame is a repetition.
	length = b.length()
	b.known.Store(length)
	if !b.cut && length > 0 && b.n >= max(length, b.atLeast) {
		return io.EOF
	}
	b.n++
	return nil
}
