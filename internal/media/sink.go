package media

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// DefaultPreset of the encoders, in x264's names.
const DefaultPreset = "veryfast"

// SinkOptions says how to write. Format and Rate are required.
type SinkOptions struct {
	Format       frame.Format
	Rate         Rational
	SampleAspect Rational // zero: square
	Tags         Tags     // usually WorkingTags

	Audio      *Info // file of the driving audio; nil: no sound
	AudioTrack int   // position among its audio tracks
	AudioStart time.Duration
	AudioEnd   time.Duration // 0: its end
	// Duration is the expected length of the video. The sound is padded with
	// silence or cut to it. If the frames written have another length, Commit
	// fits the sound again. 0 leaves the sound as long as it is.
	Duration time.Duration

	Codec    string // h264 (default, vp9 in webm), hevc, vp9, av1, prores, ffv1
	CRF      int    // 0: a default of each codec that is visually lossless, 18 for h264
	Lossless bool   // h264, hevc and vp9; ffv1 always is
	Preset   string // x264's names for all codecs; empty: DefaultPreset
	Threads  int    // of the encoder; 0 lets it choose

	Metadata  map[string]string
	Overwrite bool     // replace an existing output
	Inputs    []string // the output must be none of these
}

// Sink encodes frames and the driving audio into a file, in one run of ffmpeg.
// The file appears under its name only with Commit. One goroutine may call Write
// and Commit; another may call Close.
type Sink struct {
	ctx    context.Context
	tools  Tools
	path   string
	temp   string
	o      SinkOptions
	cont   container
	codec  string         // of the video
	ffmpeg *child.Process // set under mu
	in     *os.File
	n      int64
	err    error // sticky

	mu     sync.Mutex
	closed bool // aborted or committed
	stop   func() bool
}

const writeOp = "write video"

// OpenSink checks that path can be written and starts ffmpeg, which writes a
// hidden file in the same folder.
func OpenSink(ctx context.Context, tools Tools, path string, o SinkOptions) (*Sink, error) {
	cont, err := containerOf(path)
	if err != nil {
		return nil, err
	}
	if !o.Rate.Valid() || o.Format.Bytes() <= 0 {
		return nil, fault.Internal.New(writeOp+" "+path, "no frame rate or no format")
	}
	inputs := o.Inputs
	if o.Audio != nil {
		inputs = append([]string{o.Audio.Path}, inputs...)
	}
	if err := CheckOutput(path, o.Overwrite, inputs...); err != nil {
		return nil, err
	}
	if path, err = followLinks(path); err != nil {
		return nil, err
	}
	s := &Sink{ctx: ctx, tools: tools, path: path, o: o, cont: cont, temp: tempName(path)}
	args, err := s.args(ctx)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fault.Internal.Wrap(writeOp+" "+path, err)
	}
	enlarge(w)
	s.in = w
	cmd := command(tools.FFmpeg, args...)
	cmd.Stdin = r
	s.ffmpeg, err = child.Start(ctx, cmd, 0)
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, fault.Missing.Wrap("run ffmpeg", err)
	}
	// A cancelled job leaves no file even if nobody calls Close.
	s.stop = context.AfterFunc(ctx, func() { _ = s.Close() })
	return s, nil
}

// Write encodes a frame. f may be reused as soon as it returns.
func (s *Sink) Write(f *frame.Frame) error {
	if s.err != nil {
		return s.err
	}
	if f.Format != s.o.Format {
		return fault.Internal.New(writeOp+" "+s.path, "the frame has another format than the output")
	}
	if _, err := s.in.Write(f.Data); err != nil {
		s.err = s.failure(err)
		_ = s.Close()
		return s.err
	}
	s.n++
	return nil
}

// Temp returns the name of the hidden file that holds the output until Commit.
func (s *Sink) Temp() string { return s.temp }

// Frames returns the number of frames written.
func (s *Sink) Frames() int64 { return s.n }

// failure returns the reason why ffmpeg accepts no more frames.
func (s *Sink) failure(err error) error {
	if ctxErr := s.ctx.Err(); ctxErr != nil {
		return fault.Cancelled.Wrap(writeOp+" "+s.path, ctxErr)
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return fault.Cancelled.Wrap(writeOp+" "+s.path, context.Canceled)
	}
	// The pipe broke because ffmpeg is ending. If it does not end, it is killed.
	select {
	case <-s.ffmpeg.Done():
	case <-time.After(2 * time.Second):
		s.ffmpeg.Kill()
	}
	if exit := wait(s.ffmpeg); exit != nil {
		err = exit
	}
	return outputFault(s.path, err, s.ffmpeg.Stderr())
}

// Commit completes the file and moves it to its name. After an error the
// temporary file is gone and the output is unchanged.
func (s *Sink) Commit() error {
	if s.err != nil {
		return s.err
	}
	if s.n == 0 {
		s.err = fault.Internal.New(writeOp+" "+s.path, "no frame was written")
		_ = s.Close()
		return s.err
	}
	err := s.commit()
	if err != nil {
		s.err = err
		_ = s.Close()
		return err
	}
	s.err = fault.Internal.New(writeOp+" "+s.path, "the output is already complete")
	s.stop()
	return nil
}

func (s *Sink) commit() error {
	// An error here only means that ffmpeg has ended; its exit says why.
	_ = s.in.Close()
	exit := wait(s.ffmpeg)
	if err := s.ctx.Err(); err != nil {
		return fault.Cancelled.Wrap(writeOp+" "+s.path, err)
	}
	stderr := s.ffmpeg.Stderr()
	if exit != nil {
		return outputFault(s.path, exit, stderr)
	}
	// Some versions exit with 0 when the last bytes did not fit on the disk.
	if err := outputFault(s.path, errors.New("incomplete"), stderr); strings.Contains(strings.Join(stderr, "\n"), "Error writing trailer") {
		return err
	}
	if err := s.refit(); err != nil {
		return err
	}
	if err := s.verify(); err != nil {
		return outputFault(s.path, fmt.Errorf("the file that ffmpeg wrote cannot be read back: %w", err), stderr)
	}
	f, err := os.OpenFile(s.temp, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fault.Cancelled.Wrap(writeOp+" "+s.path, context.Canceled)
	}
	if err == nil {
		err = place(s.temp, s.path, s.o.Overwrite)
	}
	if err != nil {
		hint := ""
		if errors.Is(err, os.ErrExist) {
			hint = "use `overwrite` to replace it"
		}
		return fault.Output.Wrap(writeOp+" "+s.path, unpath(err), hint)
	}
	s.closed = true
	return nil
}

// refit cuts or pads the sound to the length of the frames written, if that is
// not the expected one: the header of the input can be wrong. The frames are
// copied, not encoded again.
func (s *Sink) refit() error {
	long := s.o.Rate.Time(s.n)
	if s.o.Audio == nil || s.o.Duration <= 0 || 2*(long-s.o.Duration).Abs() <= s.o.Rate.Time(1) {
		return nil
	}
	s.o.Duration = long
	to := tempName(s.path)
	args, err := s.copyArgs(to)
	if err != nil {
		return err
	}
	defer os.Remove(to)
	s.mu.Lock()
	if !s.closed {
		var p *child.Process
		// Close ends it like the first one.
		if p, err = child.Start(s.ctx, command(s.tools.FFmpeg, args...), 0); err == nil {
			s.ffmpeg = p
		}
	}
	s.mu.Unlock()
	if err == nil {
		err = wait(s.ffmpeg)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ctxErr := s.ctx.Err(); {
	case ctxErr != nil:
		return fault.Cancelled.Wrap(writeOp+" "+s.path, ctxErr)
	case s.closed:
		return fault.Cancelled.Wrap(writeOp+" "+s.path, context.Canceled)
	case err != nil:
		return outputFault(s.path, err, s.ffmpeg.Stderr())
	}
	if err := os.Rename(to, s.temp); err != nil {
		return fault.Output.Wrap(writeOp+" "+s.path, unpath(err))
	}
	return nil
}

// verify reads the finished file's header back: its video has to be as long as
// what was written.
func (s *Sink) verify() error {
	info, err := Probe(s.ctx, s.tools, s.temp)
	if err != nil {
		return err
	}
	if info.Video == nil {
		return errors.New("it has no video")
	}
	want := s.o.Rate.Time(s.n)
	if d := info.Video.Duration; d > 0 && d < want-max(want/100, s.o.Rate.Time(2)) {
		return fmt.Errorf("its video is %v long instead of %v", d, want)
	}
	return nil
}

// place moves the finished file to its name.
func place(temp, path string, overwrite bool) error {
	if !overwrite {
		// A link, unlike a rename, fails when the name was taken meanwhile.
		err := os.Link(temp, path)
		if err == nil {
			_ = os.Remove(temp)
			_ = disk.SyncDir(filepath.Dir(path))
			return nil
		}
		if errors.Is(err, os.ErrExist) {
			return err
		}
		if _, err := os.Lstat(path); err == nil { // no links on this file system
			return os.ErrExist
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	_ = disk.SyncDir(filepath.Dir(path)) // the file is complete by now
	return nil
}

// Abort is Close.
func (s *Sink) Abort() error { return s.Close() }

// Close without Commit kills ffmpeg and removes the temporary file; after
// Commit it does nothing.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	kill(s.ffmpeg)
	_ = s.in.Close()
	if err := os.Remove(s.temp); err != nil && !os.IsNotExist(err) {
		return fault.Output.Wrap(writeOp+" "+s.path, err)
	}
	return nil
}
