package media

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// DefaultPreset of the encoders, in x264's names.
const DefaultPreset = "veryfast"

// SinkOptions say how to write. Format and Rate are required.
type SinkOptions struct {
	Format       frame.Format
	Rate         Rational
	SampleAspect Rational // zero: square
	Tags         Tags     // usually WorkingTags

	Audio      *Info // file of the driving audio; nil: no sound
	AudioTrack int   // position among its audio tracks
	AudioStart time.Duration
	AudioEnd   time.Duration // 0: its end
	// Duration that the video is expected to have: the sound is padded with
	// silence or cut to it. Should the frames written come to another length,
	// Commit fits the sound again. 0 leaves the sound as long as it is.
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

// Sink encodes frames into a file, together with the driving audio, in one
// run of ffmpeg. The file appears under its name only with Commit. Write and
// Commit are for one goroutine; Close may be called from another.
type Sink struct {
	ctx   context.Context
	tools Tools
	path  string
	temp  string
	o     SinkOptions
	cont  container
	codec string // of the video
	c     *child // set under mu
	in    *os.File
	n     int64
	err   error // sticky

	mu     sync.Mutex
	closed bool // aborted or committed
	stop   func() bool
}

const writeOp = "write video"

// OpenSink checks the output's place and starts ffmpeg, which writes a hidden
// file beside it.
func OpenSink(ctx context.Context, tools Tools, path string, o SinkOptions) (*Sink, error) {
	cont, err := containerOf(path)
	if err != nil {
		return nil, err
	}
	if !o.Rate.Valid() || o.Format.Bytes() <= 0 {
		return nil, fault.New(fault.Internal, writeOp, path, "no frame rate or no format", "")
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
		return nil, fault.Wrap(fault.Internal, writeOp, path, err, "")
	}
	enlarge(w)
	s.in = w
	s.c, err = start(ctx, "ffmpeg", tools.FFmpeg, args, r, nil)
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, fault.Wrap(fault.Missing, "run ffmpeg", "", err, "")
	}
	// A cancelled job leaves no file even where nobody calls Close.
	s.stop = context.AfterFunc(ctx, func() { _ = s.Close() })
	return s, nil
}

// CheckEncoding says, before any work is done, whether this ffmpeg can encode
// what o asks for into a file named path. OpenSink asks the same.
func CheckEncoding(ctx context.Context, tools Tools, path string, o SinkOptions) error {
	cont, err := containerOf(path)
	if err != nil {
		return err
	}
	_, encoder, err := chooseCodec(ctx, tools, path, cont, o.Codec, o.Format)
	if err != nil {
		return err
	}
	_, err = videoCodecArgs(encoder, o.Format.PixFmt(), &o)
	return err
}

// CheckOutput says, before any work is done, whether path can be written.
func CheckOutput(path string, overwrite bool, inputs ...string) error {
	if _, err := containerOf(path); err != nil {
		return err
	}
	path, err := followLinks(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	st, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return fault.New(fault.Output, writeOp, path, "the folder "+dir+" does not exist", "create it first")
	case err != nil:
		return fault.Wrap(fault.Output, writeOp, path, err, "")
	case !st.IsDir():
		return fault.New(fault.Output, writeOp, path, dir+" is not a folder", "")
	}
	if st, err := os.Lstat(path); err == nil {
		if st.IsDir() {
			return fault.New(fault.Output, writeOp, path, "is a directory", "name a file")
		}
		for _, in := range inputs {
			if ist, err := os.Stat(in); err == nil && os.SameFile(st, ist) {
				return fault.New(fault.Output, writeOp, path, "the output is the same file as the input "+in, "choose another name for the output")
			}
		}
		if !overwrite {
			return fault.New(fault.Output, writeOp, path, "the file exists already", "use --overwrite to replace it")
		}
		if !st.Mode().IsRegular() {
			return fault.New(fault.Output, writeOp, path, "is not a regular file", "name a file")
		}
	}
	// Permissions are only known by trying.
	temp := tempName(path)
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.Wrap(fault.Output, writeOp, path, fmt.Errorf("the folder %s cannot be written: %w", dir, unpath(err)), "choose another folder")
	}
	_ = f.Close()
	return os.Remove(temp)
}

// followLinks gives the file that an output stands for: what a link points to
// is written, also where it does not exist yet, and the link stays.
func followLinks(path string) (string, error) {
	for at, n := path, 0; n < 40; n++ {
		st, err := os.Lstat(at)
		if err != nil || st.Mode()&os.ModeSymlink == 0 {
			return at, nil
		}
		to, err := os.Readlink(at)
		if err != nil {
			return "", fault.Wrap(fault.Output, writeOp, path, unpath(err), "")
		}
		if !filepath.IsAbs(to) {
			// The folder may be a link itself, from which ".." leads elsewhere.
			dir, err := filepath.EvalSymlinks(filepath.Dir(at))
			if err != nil {
				return "", fault.Wrap(fault.Output, writeOp, path, unpath(err), "")
			}
			to = filepath.Join(dir, to)
		}
		at = to
	}
	return "", fault.New(fault.Output, writeOp, path, "is a link that leads to itself", "choose another name for the output")
}

// tempName is a hidden name beside path, so that the rename stays within one
// file system.
func tempName(path string) string {
	ext := filepath.Ext(path)
	name := strings.TrimSuffix(filepath.Base(path), ext)
	// Names have at most 255 bytes on most file systems.
	for len(name) > 100 || !utf8.ValidString(name) && len(name) > 0 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	var random [6]byte
	_, _ = rand.Read(random[:]) // it cannot fail
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.lipstream-%d-%s%s", name, os.Getpid(), hex.EncodeToString(random[:]), ext))
}

// args is ffmpeg's command line.
func (s *Sink) args(ctx context.Context) ([]string, error) {
	o := &s.o
	f := o.Format
	codec, encoder, err := chooseCodec(ctx, s.tools, s.path, s.cont, o.Codec, f)
	if err != nil {
		return nil, err
	}
	s.codec = codec
	encode, err := videoCodecArgs(encoder, f.PixFmt(), o)
	if err != nil {
		return nil, err
	}
	args := append(quiet(),
		// The whitelist comes first: it is meant for this input.
		"-protocol_whitelist", "file,pipe", "-thread_queue_size", "2",
		"-f", "rawvideo", "-pix_fmt", f.PixFmt(), "-video_size", fmt.Sprintf("%dx%d", f.Width, f.Height),
		"-framerate", o.Rate.String(), "-i", "pipe:0")
	sound, err := s.audioArgs(&args)
	if err != nil {
		return nil, err
	}
	args = append(args, "-map", "0:v:0")
	args = append(args, sound...)
	args = append(args, "-vf", strings.Join(s.filters(), ","))
	args = append(args, encode...)
	if o.Threads > 0 {
		args = append(args, "-threads:v", strconv.Itoa(o.Threads))
	}
	args = append(args, s.tools.fpsMode("cfr")...)
	args = append(args, "-r", o.Rate.String())
	for _, t := range [][2]string{{"-color_range", o.Tags.Range}, {"-colorspace", o.Tags.Space},
		{"-color_primaries", o.Tags.Primaries}, {"-color_trc", o.Tags.Transfer}} {
		if t[1] != "" {
			args = append(args, t[0], t[1])
		}
	}
	return append(args, s.muxArgs(s.temp)...), nil
}

// copyArgs is the command line that copies the finished pictures to a file
// beside them and makes the sound anew, as long as o.Duration says.
func (s *Sink) copyArgs(to string) ([]string, error) {
	info, err := Probe(s.ctx, s.tools, s.temp)
	if err != nil {
		return nil, err
	}
	if info.Video == nil {
		return nil, fault.New(fault.Output, writeOp, s.path, "the file that ffmpeg wrote has no video", "")
	}
	args := quiet()
	// Matroska has moved the pictures behind the priming of its sound; the new
	// sound brings its own.
	if at := info.Start + info.Video.Start; at != 0 {
		args = append(args, "-itsoffset", seconds(-at.Seconds()))
	}
	args = append(args, "-protocol_whitelist", "file,pipe", "-i", fileURL(s.temp))
	sound, err := s.audioArgs(&args)
	if err != nil {
		return nil, err
	}
	args = append(args, "-map", "0:v:0")
	args = append(args, sound...)
	args = append(args, "-c:v", "copy")
	return append(args, s.muxArgs(to)...), nil
}

func quiet() []string { return []string{"-hide_banner", "-nostdin", "-loglevel", "error", "-n"} }

// muxArgs are the options of the output file and its name.
func (s *Sink) muxArgs(to string) []string {
	o := &s.o
	args := []string{"-map_metadata", "-1", "-map_chapters", "-1"}
	if s.cont.format == "mp4" || s.cont.format == "mov" {
		flags := "+faststart+write_colr"
		for k := range o.Metadata {
			if !mp4Keys[k] {
				// Keys of our own are kept only in this form.
				flags += "+use_metadata_tags"
				break
			}
		}
		args = append(args, "-movflags", flags)
	} else if s.codec == "hevc" {
		args = append(args, "-tag:v", "0")
	}
	for k, v := range o.Metadata {
		args = append(args, "-metadata", k+"="+v)
	}
	return append(args, "-f", s.cont.format, fileURL(to))
}

// mp4Keys are the metadata that MP4 has names for.
var mp4Keys = map[string]bool{"title": true, "comment": true, "artist": true, "description": true, "date": true,
	"copyright": true, "genre": true, "album": true, "encoder": true, "encoding_tool": true}

// filters tag the frames with their own colours before the encoder, so that
// no version of ffmpeg believes that it has to convert them.
func (s *Sink) filters() []string {
	t, set := s.o.Tags, []string{}
	for _, p := range [][2]string{{"range", t.Range}, {"colorspace", t.Space}, {"color_primaries", t.Primaries}, {"color_trc", t.Transfer}} {
		if p[1] != "" {
			set = append(set, p[0]+"="+p[1])
		}
	}
	sar := s.o.SampleAspect
	if !sar.Valid() {
		sar = Rational{1, 1}
	}
	// Its own limit of 100 would turn 32011/32044 into 1/1.
	out := []string{"setsar=" + sar.String() + ":max=65535"}
	if len(set) > 0 {
		out = append(out, "setparams="+strings.Join(set, ":"))
	}
	return out
}

// copySlack is how far a copied track may end from the video's end: a packet
// or two.
const copySlack = 60 * time.Millisecond

// audioArgs adds the audio input to args and gives the output's audio options.
func (s *Sink) audioArgs(args *[]string) ([]string, error) {
	o, cont := &s.o, s.cont
	if o.Audio == nil {
		return nil, nil
	}
	if err := o.Audio.NeedAudio(); err != nil {
		return nil, err
	}
	if o.AudioTrack < 0 || o.AudioTrack >= len(o.Audio.Audio) {
		return nil, fault.New(fault.Usage, writeOp, o.Audio.Path, fmt.Sprintf("there is no audio track %d", o.AudioTrack), "tracks are counted from 0")
	}
	a := o.Audio.Audio[o.AudioTrack]
	out := []string{"-map", "1:a:" + strconv.Itoa(o.AudioTrack)}
	if a.Language != "" {
		out = append(out, "-metadata:s:a:0", "language="+a.Language)
	}
	// A copy cannot be cut or padded to the sample, so only a track that fits
	// already is copied.
	fits := o.AudioStart == 0 && (o.AudioEnd == 0 || o.AudioEnd >= a.Start+a.Duration)
	if o.Duration > 0 {
		fits = fits && a.Duration > 0 && (a.Start+a.Duration-o.Duration).Abs() <= copySlack
	}
	// MPEG-TS: a copy would lose how far the sound starts behind the picture.
	fits = fits && (a.Start < time.Millisecond || seekable(o.Audio.Container))
	if fits {
		for _, c := range cont.copies {
			if c == a.Codec {
				*args = append(*args, inputArgs(o.Audio, o.Audio.Path)...)
				return append(out, "-c:a", "copy"), nil
			}
		}
	}
	end := o.AudioEnd
	if end >= a.Start+a.Duration && a.Duration > 0 {
		end = 0
	}
	*args = append(*args, audioInput(o.Audio, o.Audio.Path, o.AudioStart)...)
	filters := audioFilters(o.Audio, o.AudioStart, end, o.Duration)
	if f := opusLayout(a); f != "" && cont.lossy == "libopus" {
		filters = append(filters, f)
	}
	out = append(out, "-af", strings.Join(filters, ","))
	return append(out, audioCodecArgs(cont, a)...), nil
}

// Write encodes a frame. f may be reused as soon as it returns.
func (s *Sink) Write(f *frame.Frame) error {
	if s.err != nil {
		return s.err
	}
	if f.Format != s.o.Format {
		return fault.New(fault.Internal, writeOp, s.path, "the frame has another format than the output", "")
	}
	if _, err := s.in.Write(f.Data); err != nil {
		s.err = s.failure(err)
		_ = s.Close()
		return s.err
	}
	s.n++
	return nil
}

// Frames is how many frames were written.
func (s *Sink) Frames() int64 { return s.n }

// failure finds out why ffmpeg takes no more frames.
func (s *Sink) failure(err error) error {
	if ctxErr := s.ctx.Err(); ctxErr != nil {
		return fault.Wrap(fault.Cancelled, writeOp, s.path, ctxErr, "")
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return fault.Wrap(fault.Cancelled, writeOp, s.path, context.Canceled, "")
	}
	// The pipe is broken because ffmpeg is ending; should it not, it is ended.
	select {
	case <-s.c.done:
	case <-time.After(2 * time.Second):
		s.c.kill()
	}
	if exit := s.c.wait(); exit != nil {
		err = exit
	}
	return outputFault(s.path, err, s.c.tail.lines())
}

// outputFault says in the user's words why the file could not be written.
func outputFault(path string, err error, stderr []string) error {
	text := strings.Join(stderr, "\n")
	for _, known := range [][3]string{
		{"No space left on device", "the disk is full", "free some space, or write to another disk"},
		{"Disk quota exceeded", "the disk quota is used up", "free some space, or write to another disk"},
		{"File too large", "the file has reached the size limit of the file system or of the process", "write to another disk, or raise ulimit -f"},
		{"Read-only file system", "the file system is read-only", "write to another disk"},
	} {
		if strings.Contains(text, known[0]) {
			return &fault.Error{Kind: fault.Output, Op: writeOp, Subject: path, Err: &explained{known[1], err}, Hint: known[2]}
		}
	}
	if x, ok := errors.AsType[*ExitError](err); ok && x.Signal != 0 {
		if x.Signal == fileSizeSignal {
			return &fault.Error{Kind: fault.Output, Op: writeOp, Subject: path, Hint: "raise ulimit -f",
				Err: &explained{"the file has reached the process's size limit", err}}
		}
		return fault.Wrap(fault.Internal, writeOp, path, err, exitHint(err))
	}
	return fault.Wrap(fault.Output, writeOp, path, err, "")
}

// explained is an error with a better text.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// Commit ends the file and moves it to its name. After an error the temporary
// file is gone and the output is as it was.
func (s *Sink) Commit() error {
	if s.err != nil {
		return s.err
	}
	if s.n == 0 {
		s.err = fault.New(fault.Internal, writeOp, s.path, "no frame was written", "")
		_ = s.Close()
		return s.err
	}
	err := s.commit()
	if err != nil {
		s.err = err
		_ = s.Close()
		return err
	}
	s.err = fault.New(fault.Internal, writeOp, s.path, "the output is already complete", "")
	s.stop()
	return nil
}

func (s *Sink) commit() error {
	// Not an error: ffmpeg may have ended by itself, which its exit tells.
	_ = s.in.Close()
	exit := s.c.wait()
	if err := s.ctx.Err(); err != nil {
		return fault.Wrap(fault.Cancelled, writeOp, s.path, err, "")
	}
	stderr := s.c.tail.lines()
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
		return fault.Wrap(fault.Cancelled, writeOp, s.path, context.Canceled, "")
	}
	if err == nil {
		err = place(s.temp, s.path, s.o.Overwrite)
	}
	if err != nil {
		hint := ""
		if errors.Is(err, os.ErrExist) {
			hint = "use --overwrite to replace it"
		}
		return fault.Wrap(fault.Output, writeOp, s.path, unpath(err), hint)
	}
	s.closed = true
	return nil
}

// refit makes the sound as long as the pictures that were written, when that
// is not what was expected: a header can promise less or more than its file
// holds. The pictures are copied, not encoded again.
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
		var c *child
		// Close ends it like the first one.
		if c, err = start(s.ctx, "ffmpeg", s.tools.FFmpeg, args, nil, nil); err == nil {
			s.c = c
		}
	}
	s.mu.Unlock()
	if err == nil {
		err = s.c.wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ctxErr := s.ctx.Err(); {
	case ctxErr != nil:
		return fault.Wrap(fault.Cancelled, writeOp, s.path, ctxErr, "")
	case s.closed:
		return fault.Wrap(fault.Cancelled, writeOp, s.path, context.Canceled, "")
	case err != nil:
		return outputFault(s.path, err, s.c.tail.lines())
	}
	if err := os.Rename(to, s.temp); err != nil {
		return fault.Wrap(fault.Output, writeOp, s.path, unpath(err), "")
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
			syncDir(filepath.Dir(path))
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
	syncDir(filepath.Dir(path))
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
	s.c.close()
	_ = s.in.Close()
	if err := os.Remove(s.temp); err != nil && !os.IsNotExist(err) {
		return fault.Wrap(fault.Output, writeOp, s.path, err, "")
	}
	return nil
}
