// Package frame holds video frames in memory in the decoder's and encoder's own
// layout, planar Y'CbCr, so that pixels nobody edits stay as they are, bit for
// bit.
package frame

import "fmt"

// Matrix is the Y'CbCr matrix of a stream (ITU-T H.273 MatrixCoefficients).
type Matrix int

// The matrices that Lipstream converts with.
const (
	BT601 Matrix = iota
	BT709
	BT2020
)

// Format is the layout of a frame: planar Y'CbCr, 8 or 10 bits, chroma
// subsampled by 2^ShiftX and 2^ShiftY (0 or 1).
type Format struct {
	Width, Height  int
	ShiftX, ShiftY int
	Depth          int // bits per sample: 8 (one byte) or 10 (two bytes, little endian)
	Matrix         Matrix
	FullRange      bool // luma 0..255 rather than 16..235 (at 8 bits)
	Alpha          bool // a plane of straight alpha as large as luma, full range, of the same depth
}

// PixFmt returns ffmpeg's name of the pixel format: yuv420p, yuv444p10le and so on.
func (f Format) PixFmt() string {
	name := [2][2]string{{"444p", "444p"}, {"422p", "420p"}}[f.ShiftX][f.ShiftY]
	if f.Alpha {
		name = "yuva" + name
	} else {
		name = "yuv" + name
	}
	if f.Depth > 8 {
		name = fmt.Sprintf("%s%dle", name, f.Depth)
	}
	return name
}

// SampleBytes returns the size of one sample: 1 or 2.
func (f Format) SampleBytes() int { return (f.Depth + 7) / 8 }

// PlaneSize returns width and height in samples of plane i (0 Y, 1 Cb, 2 Cr).
func (f Format) PlaneSize(i int) (w, h int) {
	if i == 0 {
		return f.Width, f.Height
	}
	return (f.Width + 1<<f.ShiftX - 1) >> f.ShiftX, (f.Height + 1<<f.ShiftY - 1) >> f.ShiftY
}

// planeBytes returns the size of plane i.
func (f Format) planeBytes(i int) int {
	w, h := f.PlaneSize(i)
	return w * h * f.SampleBytes()
}

// Bytes returns the size of one frame.
func (f Format) Bytes() int {
	n := f.planeBytes(0) + 2*f.planeBytes(1)
	if f.Alpha {
		n += f.planeBytes(0)
	}
	return n
}

// Frame is one picture. Planes are tightly packed (no row padding) parts of
// Data, in the order Y, Cb, Cr, which is also ffmpeg's rawvideo order. Alpha, if the
// format has it, follows them in Data. Nothing changes it.
type Frame struct {
	Format
	Index  int64 // 0-based position in the output
	Data   []byte
	Planes [3][]byte
}

// New allocates a frame.
func New(f Format) *Frame {
	fr := &Frame{Format: f, Data: make([]byte, f.Bytes())}
	at := 0
	for i := range 3 {
		n := f.planeBytes(i)
		fr.Planes[i] = fr.Data[at : at+n : at+n]
		at += n
	}
	return fr
}

// AlphaAt returns the alpha of a pixel, from 0 to 1.
func (f *Frame) AlphaAt(x, y int) float32 {
	if !f.Alpha {
		return 1
	}
	at := f.planeBytes(0) + 2*f.planeBytes(1) + (y*f.Width+x)*f.SampleBytes()
	v := int(f.Data[at])
	if f.SampleBytes() == 2 {
		v |= int(f.Data[at+1]) << 8
	}
	return float32(v) / float32(int(1)<<f.Depth-1)
}

// Pool holds a limited number of frames of one format. Get blocks while all of
// them are in use, which slows down a fast decoder.
type Pool struct {
	format Format
	free   chan *Frame
	room   chan struct{} // one token for each frame not yet allocated
}

// NewPool returns a pool of at most n frames.
func NewPool(f Format, n int) *Pool {
	p := &Pool{format: f, free: make(chan *Frame, n), room: make(chan struct{}, n)}
	for range n {
		p.room <- struct{}{}
	}
	return p
}

// Get returns a free frame, or nil if done is closed first.
func (p *Pool) Get(done <-chan struct{}) *Frame {
	select {
	case f := <-p.free:
		return f
	default:
	}
	select {
	case f := <-p.free:
		return f
	case <-p.room:
		return New(p.format)
	case <-done:
		return nil
	}
}

// Put gives a frame back. Its content may be overwritten at once.
func (p *Pool) Put(f *Frame) {
	if f != nil {
		p.free <- f
	}
}
