package media

import (
	"cmp"
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
	HDR          *HDR     // nil: none
	// Fields is the order of the fields if the frames are interlaced: FieldsTop or
	// FieldsBottom. Empty: they are progressive.
	Fields string

	Audio      *Info // file of the sound; nil: no sound
	AudioTrack int   // position among its audio tracks
	// Mix are further files whose sound is mixed with it. Each keeps its level, unless
	// the sum would be louder than full scale: then all are lowered by the same gain.
	Mix []*Info
	// Duration is the expected length of the video. The sound is padded with
	// silence or cut to it. If the frames written have another length, Commit
	// fits the sound again. 0 leaves the sound as long as it is.
	Duration time.Duration

	Codec    string // h264 (default, vp9 in webm), hevc, vp9, av1, prores, ffv1
	CRF      int    // 0: a default of each codec that is visually lossless, 18 for h264
	Lossless bool   // h264, hevc and vp9; ffv1 always is
	Preset   string // x264's names for all codecs; empty: DefaultPreset

	// Extras are written beside the frames; nil: nothing is.
	Extras    *Extras
	Metadata  map[string]string
	Overwrite bool     // replace an existing output
	Inputs    []string // the output must be none of these

	// Note is called with the name of each hidden file before it is created; nil: it is
	// not wanted.
	Note func(path string) error
	// Warn is called with warnings about the extras; nil: they are not wanted.
	Warn func(string)
}

// Sink encodes frames and the driving audio into a file, in one run of ffmpeg.
// The file appears under its name only with Commit. One goroutine may call Write
// and Commit; another may call Close.
type Sink struct {
	ctx    context.Context
	tools  Tools
	path   string
	op     string // for errors: "write video a.mp4"
	temp   string
	o      SinkOptions
	cont   container
	codec  string         // of the video
	ffmpeg *child.Process // set under mu
	in     *os.File       // of the frames; nil when Join writes
	n      int64
	gain   float64 // of the voices of a mix; 0 before it was computed
	err    error   // sticky

	mu     sync.Mutex
	closed bool // aborted or committed
	stop   func() bool
}

const writeOp = "write video"

// OpenSink checks that path can be written and starts ffmpeg, which writes a
// hidden file in the same folder.
func OpenSink(ctx context.Context, tools Tools, path string, o SinkOptions) (*Sink, error) {
	s, err := newSink(ctx, tools, path, o)
	if err != nil {
		return nil, err
	}
	if err := s.note(); err != nil {
		return nil, err
	}
	args, err := s.args(ctx)
	if err != nil {
		s.removeLists()
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		s.removeLists()
		return nil, fault.Internal.Wrap(s.op, err)
	}
	enlarge(w)
	s.in = w
	err = s.start(args, r)
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	return s, nil
}

// newSink checks the place of the output.
func newSink(ctx context.Context, tools Tools, path string, o SinkOptions) (*Sink, error) {
	inputs := o.Inputs
	if o.Audio != nil {
		inputs = append([]string{o.Audio.Path}, inputs...)
	}
	if err := CheckOutput(path, o.Overwrite, inputs...); err != nil {
		return nil, err
	}
	cont, err := containerOf(path)
	if err != nil {
		return nil, err
	}
	path, err = followLinks(path)
	return &Sink{ctx: ctx, tools: tools, path: path, op: writeOp + " " + path, o: o, cont: cont, temp: disk.TempName(path)}, err
}

// beside returns the name of another hidden file of the same output. It is a temporary
// name like s.temp itself.
func (s *Sink) beside(suffix string) string {
	return strings.TrimSuffix(s.temp, filepath.Ext(s.temp)) + suffix
}

// note passes the names of the hidden files to o.Note.
func (s *Sink) note() error {
	if s.o.Note == nil {
		return nil
	}
	paths := []string{s.temp}
	if s.o.Extras != nil {
		paths = append(paths, s.beside(tracksSuffix), s.beside(textSuffix), s.beside(chaptersSuffix))
	}
	for _, path := range paths {
		if err := s.o.Note(path); err != nil {
			return err
		}
	}
	return nil
}

// start starts ffmpeg.
func (s *Sink) start(args []string, stdin *os.File) (err error) {
	cmd := s.tools.ffmpeg(args)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if s.ffmpeg, err = child.Start(s.ctx, cmd, 0); err != nil {
		s.removeLists()
		return fault.Missing.Wrap("run ffmpeg", err)
	}
	// A cancelled job leaves no file even if nobody calls Close.
	s.stop = context.AfterFunc(s.ctx, func() { _ = s.Close() })
	return nil
}

// Write encodes a frame. f may be reused as soon as it returns.
func (s *Sink) Write(f *frame.Frame) error {
	if s.err != nil {
		return s.err
	}
	if f.Format != s.o.Format {
		return fault.Internal.New(s.op, "the frame has another format than the output")
	}
	if _, err := s.in.Write(f.Data); err != nil {
		s.err = s.failure(err)
		_ = s.Close()
		return s.err
	}
	s.n++
	return nil
}

// failure returns the reason why ffmpeg accepts no more frames.
func (s *Sink) failure(err error) error {
	s.mu.Lock()
	cancelled := s.cancelled()
	s.mu.Unlock()
	if cancelled != nil {
		return cancelled
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
	return outputFault(s.op, err, s.ffmpeg.Stderr())
}

// cancelled returns an error if the job was cancelled or the sink was closed. The
// caller holds mu.
func (s *Sink) cancelled() error {
	err := s.ctx.Err()
	if s.closed {
		err = cmp.Or(err, context.Canceled)
	}
	return fault.Cancelled.Wrap(s.op, err)
}

// Commit completes the file and moves it to its name. After an error the
// temporary file is gone and the output is unchanged.
func (s *Sink) Commit() error {
	if s.err != nil {
		return s.err
	}
	if s.n == 0 {
		s.err = fault.Internal.New(s.op, "no frame was written")
	} else {
		s.err = s.commit()
	}
	if s.err != nil {
		_ = s.Close()
		return s.err
	}
	s.err = fault.Internal.New(s.op, "the output is already complete")
	s.stop()
	return nil
}

func (s *Sink) commit() error {
	// Close may have removed the lists before refit writes them again.
	defer s.removeLists()
	// An error here only means that ffmpeg has ended; its exit says why.
	_ = s.in.Close()
	exit := wait(s.ffmpeg)
	if err := s.ctx.Err(); err != nil {
		return fault.Cancelled.Wrap(s.op, err)
	}
	stderr := s.ffmpeg.Stderr()
	// Some versions exit with 0 when the last bytes did not fit on the disk.
	if exit == nil && strings.Contains(strings.Join(stderr, "\n"), "Error writing trailer") {
		exit = errors.New("incomplete")
	}
	if exit != nil {
		return outputFault(s.op, exit, stderr)
	}
	if err := s.refit(); err != nil {
		return err
	}
	if err := s.verify(); err != nil {
		return outputFault(s.op, fmt.Errorf("the file that ffmpeg wrote cannot be read back: %w", err), stderr)
	}
	f, err := os.OpenFile(s.temp, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cancelled(); err != nil {
		return err
	}
	if err == nil {
		err = place(s.temp, s.path, s.o.Overwrite)
	}
	if err != nil {
		hint := disk.Hint(err, "")
		if errors.Is(err, os.ErrExist) {
			hint = "use `overwrite` to replace it"
		}
		return fault.Output.Wrap(s.op, fault.WithoutPath(err), hint)
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
	s.o.Duration, s.o.Warn = long, nil // it has warned
	to := disk.TempName(s.path)
	if s.o.Note != nil {
		if err := s.o.Note(to); err != nil {
			return err
		}
	}
	args, err := s.copyArgs(to)
	if err != nil {
		return err
	}
	defer os.Remove(to)
	s.mu.Lock()
	if !s.closed {
		var p *child.Process
		// Close ends it like the first one.
		if p, err = child.Start(s.ctx, s.tools.ffmpeg(args), 0); err == nil {
			s.ffmpeg = p
		}
	}
	s.mu.Unlock()
	if err == nil {
		err = wait(s.ffmpeg)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cancelled(); err != nil {
		return err
	}
	if err != nil {
		return outputFault(s.op, err, s.ffmpeg.Stderr())
	}
	return fault.Output.Wrap(s.op, fault.WithoutPath(disk.Rename(to, s.temp)))
}

// verify reads the finished file's header back: its video has to be as long as
// what was written.
func (s *Sink) verify() error {
	info, err := Probe(s.ctx, s.tools, s.temp)
	if err == nil {
		err = info.NeedVideo()
	}
	if err != nil {
		return err
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
	if err := disk.Rename(temp, path); err != nil {
		return err
	}
	_ = disk.SyncDir(filepath.Dir(path)) // the file is complete by now
	return nil
}

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
	_ = s.in.Close() // nothing if it is nil
	s.removeLists()
	if err := disk.Remove(s.temp); err != nil && !os.IsNotExist(err) {
		return fault.Output.Wrap(s.op, fault.WithoutPath(err))
	}
	return nil
}
