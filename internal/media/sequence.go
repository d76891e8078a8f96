package media

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// Mode says how a Sequence continues after the end of the video.
type Mode int

// The modes. PingPong works as in LatentSync: frames 0 to V-1, then V-1 to 0,
// and so on; the first and the last frame appear twice in a row.
const (
	Shortest Mode = iota // io.EOF after the last frame
	Pad                  // the last frame, forever
	Loop                 // the first frame again, forever
	PingPong             // backwards, then forwards, forever
)

var modes = []string{"shortest", "pad", "loop", "pingpong"}

// String returns the mode's name in the settings of a job.
func (m Mode) String() string { return modes[m] }

// ParseMode is the inverse of String.
func ParseMode(s string) (Mode, error) {
	if m := slices.Index(modes, s); m >= 0 {
		return Mode(m), nil
	}
	return 0, fault.Field("length", s, "is not a known mode", "choose one of "+strings.Join(modes, ", "))
}

const (
	// buffer is the size in bytes of the buffer for reading backwards. A smaller one
	// would mean more seeking, because each piece is decoded from the key frame before
	// it.
	buffer     = 64 << 20
	minSegment = 4 // frames that it holds at least
)

// Sequence reads a video that continues after its end, as its Mode says. Its
// memory does not depend on the length. One goroutine may call Read; another may
// call Close.
type Sequence struct {
	ctx   context.Context
	tools Tools
	path  string
	info  *Info
	o     VideoOptions
	mode  Mode

	first   int64          // of the part, on the grid of o.Rate
	length  int64          // of one pass; 0 until its end has been seen
	short   bool           // see Short
	back    bool           // reading backwards
	at      int64          // frames given in this pass
	held    []*frame.Frame // the piece that is in memory
	heldAt  int64          // number of held[0] in the pass
	heldLen int            // frames of held in use
	segment int64          // frames in a piece
	last    *frame.Frame   // Pad: a copy of frame lastAt of the first pass, if lastAt is not 0
	lastAt  int64          // counted from 1

	mu     sync.Mutex
	src    *VideoSource
	closed bool
}

// NewSequence opens the video and starts reading it forward.
func NewSequence(ctx context.Context, tools Tools, path string, info *Info, o VideoOptions, mode Mode) (*Sequence, error) {
	src, err := OpenVideo(ctx, tools, path, info, o)
	if err != nil {
		return nil, err
	}
	o = src.o // with the rate filled in
	s := &Sequence{ctx: ctx, tools: tools, path: path, info: info, o: o, mode: mode, src: src}
	s.first = o.Rate.Frame(o.Start)
	s.segment = max(minSegment, int64(buffer/max(1, o.Format.Bytes())))
	return s, nil
}

// Length returns the number of frames in the video, or 0 until its end was read.
func (s *Sequence) Length() int64 { return s.length }

// Short reports whether more than 5 % of the frames that the file promised are
// missing. It is known once the end of the video was read.
func (s *Sequence) Short() bool { return s.short }

// Read fills f with the next frame. It returns io.EOF only in the mode Shortest.
func (s *Sequence) Read(f *frame.Frame) error {
	for {
		if s.length > 0 && s.mode != Shortest {
			return s.again(f)
		}
		err := s.source().Read(f)
		if err == nil {
			s.at++
			s.keep(f)
			return nil
		}
		if !errors.Is(err, io.EOF) || s.mode == Shortest && s.length > 0 {
			return err
		}
		s.length, s.short = s.at, s.source().Short()
		s.at, s.back = 0, s.mode == PingPong
	}
}

// keep copies a frame that Pad may have to repeat. Reading it again would take a
// process and, without an index, decoding the whole file. Frames long before the expected
// end are not copied: only in a damaged file, one of them can be the last.
func (s *Sequence) keep(f *frame.Frame) {
	// A picture's source has no end.
	if s.mode != Pad || s.info.Video.IsPicture || s.at < s.source().want*95/100-1 {
		return
	}
	s.lastAt = s.at
	if s.last == nil {
		s.last = frame.New(s.o.Format)
	}
	copy(s.last.Data, f.Data)
}

// again reads a frame after the first pass.
func (s *Sequence) again(f *frame.Frame) error {
	if err := s.ctx.Err(); err != nil {
		return fault.Cancelled.Wrap("read video "+s.path, err)
	}
	if f.Format != s.o.Format {
		return fault.Internal.New("read video "+s.path, "the frame has another format than the source")
	}
	if s.mode == Pad {
		if s.lastAt != s.length {
			return s.fromMemory(f, s.length-1)
		}
		copy(f.Data, s.last.Data)
		return nil
	}
	if s.at == s.length {
		s.at = 0
		s.back = s.mode == PingPong && !s.back
	}
	n := s.at
	if s.back {
		n = s.length - 1 - n
	}
	var err error
	if s.back || s.length <= s.segment {
		// A clip that fits in memory is decoded a second time, then never again.
		err = s.fromMemory(f, n)
	} else {
		err = s.forward(f, n)
	}
	if err == nil {
		s.at++
	}
	return err
}

// forward reads frame n of a further pass through a source of its own.
func (s *Sequence) forward(f *frame.Frame, n int64) error {
	if n == 0 {
		if err := s.open(0, s.length); err != nil {
			return err
		}
	}
	return s.must(s.source().Read(f))
}

// fromMemory returns frame n of the pass. If it is not in memory, fromMemory
// reads the piece that ends with it.
func (s *Sequence) fromMemory(f *frame.Frame, n int64) error {
	if n < s.heldAt || n >= s.heldAt+int64(s.heldLen) {
		end := n
		if s.length <= s.segment {
			end = s.length - 1 // all of it, once
		}
		if err := s.fetch(end); err != nil {
			return err
		}
	}
	copy(f.Data, s.held[n-s.heldAt].Data)
	return nil
}

// fetch reads the piece that ends with frame n.
func (s *Sequence) fetch(n int64) error {
	count := min(s.segment, n+1)
	s.heldLen, s.heldAt = 0, n+1-count
	if err := s.open(s.heldAt, n+1); err != nil {
		return err
	}
	for i := range int(count) {
		if i == len(s.held) {
			s.held = append(s.held, frame.New(s.o.Format))
		}
		if err := s.must(s.source().Read(s.held[i])); err != nil {
			return err
		}
		s.heldLen++
	}
	return s.source().Close()
}

// must turns an early end into an error, because the first pass had the frame.
func (s *Sequence) must(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.Input.New("read video "+s.path, "a frame that could be decoded before cannot be reached again",
			"the file's index may be damaged: remux it with ffmpeg -i FILE -c copy NEW.mp4")
	}
	return err
}

// open replaces the source with one that reads a stretch of the pass.
func (s *Sequence) open(from, to int64) error {
	if err := s.source().Close(); err != nil {
		return err
	}
	src, err := openSpan(s.ctx, s.tools, s.path, s.info, s.o, s.first+from, s.first+to)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.src = src
	if s.closed {
		return src.Close()
	}
	return nil
}

func (s *Sequence) source() *VideoSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src
}

// Close kills ffmpeg and waits for it.
func (s *Sequence) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.src.Close()
}
