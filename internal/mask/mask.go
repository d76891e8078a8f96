// Package mask reads the mask of a job: a picture or a video that says where the frames of
// the job's video may change.
package mask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/media"
)

// Options says how a mask belongs to its video.
type Options struct {
	Width, Height int            // of the frames
	Rate          media.Rational // of the output
	First         int64          // the frame of the mask that belongs to frame 0, on the grid of Rate
}

// Mask reads the frames of a mask. It is not safe for concurrent use.
type Mask struct {
	ctx    context.Context
	tools  media.Tools
	info   *media.Info
	o      Options
	format frame.Format
	frame  *frame.Frame // that is being read
	levels [256]byte

	src    *media.VideoSource
	next   int64 // number of the frame that src returns next, counted from the mask's beginning
	last   int64 // number of the frame that was asked for last and not held
	length int64 // frames of the mask; 0 until its end was read
	window int64 // frames to hold
	piece  int64 // frames to hold while the video is played backwards
	held   [][]byte
	heldAt int64    // number of held[0]
	spare  [][]byte // buffers to use again
}

// held bounds what a mask keeps of frames that are needed backwards, in bytes.
const held = 64 << 20

// Memory returns what a mask takes, in bytes, for a video with frames of a size in bytes: its
// ffmpeg, frames on their way, the copies of the frames from before the engine, and what is
// held of it to be played backwards.
func Memory(frame int) int64 {
	const process, frames = 70 << 20, 16
	return process + frames*int64(frame) + held
}

// unequal is the largest difference between the shapes of mask and video, as a share: that of
// sides rounded to whole pixels.
const unequal = 0.02

// Check returns an error if a file cannot be the mask of frames of w×h pixels.
func Check(info *media.Info, w, h int) error {
	if err := info.NeedVideo(); err != nil {
		return err
	}
	v := info.Video
	if r := float64(v.Width) * float64(h) / (float64(v.Height) * float64(w)); math.Abs(r-1) > unequal {
		return fault.Input.New("read mask "+info.Path, fmt.Sprintf("its shape of %dx%d differs from that of the video, %dx%d", v.Width, v.Height, w, h),
			"make a mask with the shape of the video; its size does not matter")
	}
	return nil
}

// Open returns the mask in the file that info describes. It reads nothing yet.
func Open(ctx context.Context, tools media.Tools, info *media.Info, o Options) *Mask {
	// Only the luma is used, in the range that it has in the file.
	v := info.Video
	format := frame.Format{Width: o.Width, Height: o.Height, Depth: 8, Matrix: frame.BT709, FullRange: v.RGB || v.IsPicture || v.HasAlpha || v.ColorRange == "pc"}
	if o.Width%2 == 0 && o.Height%2 == 0 {
		format.ShiftX, format.ShiftY = 1, 1
	}
	return &Mask{ctx: ctx, tools: tools, info: info, o: o, format: format, frame: frame.New(format), levels: levels(format.FullRange), piece: max(4, held/int64(o.Width*o.Height))}
}

// At returns the values of the mask in frame n of the video, one for each pixel: 0 where the
// frame must not change, 255 where it may, and between them the share of the change. The last
// frame of a mask that is shorter than the video stays. The slice is valid until the next call.
func (m *Mask) At(n int64) ([]byte, error) {
	n += m.o.First
	if m.info.Video.IsPicture {
		n = 0
	}
	for {
		if m.length > 0 {
			n = min(n, m.length-1)
		}
		if i := n - m.heldAt; i >= 0 && i < int64(len(m.held)) {
			return m.held[i], nil
		}
		if err := m.seek(n); err != nil {
			return nil, err
		}
		if err := m.read(n); err != nil {
			return nil, err
		}
	}
}

// seek makes sure that src has not passed frame n. If it has, the video is played backwards
// or again from its beginning.
func (m *Mask) seek(n int64) error {
	before := m.last
	m.last = n
	if m.src != nil && n >= m.next {
		m.window = 1
		return nil
	}
	m.window = 1
	from := n
	if n == before-1 { // backwards: a piece that ends with n
		m.window = m.piece
		from = max(0, n+1-m.window)
	}
	return m.open(from)
}

// open starts reading at a frame, or before it if the mask ends earlier.
func (m *Mask) open(from int64) error {
	if err := m.Close(); err != nil {
		return err
	}
	m.spare, m.held = append(m.spare, m.held...), nil
	v := m.info.Video
	if v.Duration > 0 {
		from = max(0, min(from, m.o.Rate.Frame(v.Duration)-1))
	}
	for {
		o := media.VideoOptions{Format: m.format, Rate: m.o.Rate, Start: m.o.Rate.Time(from)}
		src, err := media.OpenVideo(m.ctx, m.tools, m.info.Path, m.info, o)
		if err == nil {
			m.src, m.next = src, from
			if err = src.Read(m.frame); err == nil {
				m.keep()
				return nil
			}
			_ = m.Close()
		}
		if from == 0 || m.ctx.Err() != nil {
			return err
		}
		from /= 2 // the header promises more than the mask has
	}
}

// read reads frames up to frame n, or to the end of the mask.
func (m *Mask) read(n int64) error {
	for m.next <= n {
		err := m.src.Read(m.frame)
		if errors.Is(err, io.EOF) {
			m.length = m.next
			return nil
		}
		if err != nil {
			return err
		}
		m.keep()
	}
	return nil
}

// levels returns the values of the mask for its luma. What is within 2 % of black or white
// counts as that: lossy codecs do not keep them exactly.
func levels(fullRange bool) (l [256]byte) {
	black, white := 5, 250
	if !fullRange {
		black, white = 16+4, 235-4
	}
	for i := range l {
		l[i] = byte(min(max(i-black, 0)*255/(white-black), 255))
	}
	return l
}

// keep keeps the luma of the frame that was read, and of the frames before it as many as the
// window has.
func (m *Mask) keep() {
	for int64(len(m.held)) >= m.window {
		m.spare = append(m.spare, m.held[0])
		m.held = slices.Delete(m.held, 0, 1)
	}
	var values []byte
	if n := len(m.spare); n > 0 {
		values, m.spare = m.spare[n-1], m.spare[:n-1]
	} else {
		values = make([]byte, m.o.Width*m.o.Height)
	}
	for i, v := range m.frame.Planes[0] {
		values[i] = m.levels[v]
	}
	m.held = append(m.held, values)
	m.next++
	m.heldAt = m.next - int64(len(m.held))
}

// Close stops reading. At starts again.
func (m *Mask) Close() error {
	if m.src == nil {
		return nil
	}
	src := m.src
	m.src = nil
	return src.Close()
}
