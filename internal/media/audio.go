package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
)

// AudioOptions says what to read. The zero value means the track's own rate, mono
// and the whole track.
type AudioOptions struct {
	SampleRate int
	Channels   int // 1 mixes all channels; more are interleaved
	Start, End time.Duration
}

// AudioSource reads the samples of one audio track. One goroutine may call Read;
// another may call Close.
type AudioSource struct {
	ctx     context.Context
	path    string
	ffmpeg  *child.Process
	out     *os.File
	mu      sync.Mutex
	closed  bool
	buf     []byte
	samples int64
	err     error
}

// OpenAudio starts reading audio track number track (its position among the
// audio tracks). Times count from the start of the file, as for the video: a
// track that begins later starts with silence, and gaps are filled with it.
func OpenAudio(ctx context.Context, tools Tools, path string, info *Info, track int, o AudioOptions) (*AudioSource, error) {
	const op = "read audio"
	if err := info.NeedAudio(); err != nil {
		return nil, err
	}
	if track < 0 || track >= len(info.Audio) {
		return nil, fault.Usage.New(op+" "+path, fmt.Sprintf("the file has no audio track %d, only %d tracks", track, len(info.Audio)), "choose a track, counted from 0")
	}
	a := info.Audio[track]
	if o.SampleRate <= 0 {
		o.SampleRate = a.SampleRate
	}
	if o.SampleRate <= 0 {
		return nil, fault.Input.New(op+" "+path, "the audio track has no sample rate")
	}
	if o.Start < 0 || o.End > 0 && o.End <= o.Start {
		return nil, fault.Usage.New(op+" "+path, fmt.Sprintf("the part from %v to %v is empty", o.Start, o.End),
			"the end has to come after the start")
	}
	args := []string{"-hide_banner", "-nostdin", "-loglevel", "error"}
	args = append(args, audioInput(info, path, o.Start)...)
	args = append(args, "-map", "0:a:"+strconv.Itoa(track), "-vn", "-sn", "-dn",
		"-af", strings.Join(audioFilters(info, o.Start, o.End, 0), ","),
		"-ac", strconv.Itoa(max(1, o.Channels)), "-ar", strconv.Itoa(o.SampleRate), "-f", "f32le", "-c:a", "pcm_f32le", "pipe:1")
	p, out, err := startReader(ctx, tools, args)
	if err != nil {
		return nil, fault.Missing.Wrap("run ffmpeg", err)
	}
	return &AudioSource{ctx: ctx, path: path, ffmpeg: p, out: out}, nil
}

// audioInput returns the arguments for the input from start on. The times stay
// those of the file, which audioFilters relies on. In some containers ffmpeg's
// own shift would lose the offset between sound and picture.
func audioInput(info *Info, path string, start time.Duration) []string {
	args := []string{"-copyts"}
	if start > 0 {
		args = append(args, "-ss", secondsOf(start))
	}
	return append(args, inputArgs(info, path)...)
}

// audioFilters returns filters that put sample 0 at the start of the file (or of
// the part), fill gaps with silence, cut at end, and pad to length unless it is 0.
func audioFilters(info *Info, start, end, length time.Duration) []string {
	var f []string
	if shift := info.Start + start; shift != 0 {
		f = append(f, "asetpts=round(PTS-("+seconds(shift.Seconds())+")/TB)")
	}
	f = append(f, "aresample=async=1:first_pts=0")
	if end > 0 {
		f = append(f, "atrim=end="+secondsOf(end-start))
	}
	if length > 0 {
		f = append(f, "apad=whole_dur="+secondsOf(length), "atrim=end="+secondsOf(length))
	}
	return f
}

// Read fills p with samples and returns their number. Only at the end are there
// fewer than len(p), with io.EOF.
func (s *AudioSource) Read(p []float32) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	// In pieces, because a caller may pass a buffer for an hour of sound.
	const piece = 1 << 14
	total := 0
	for total < len(p) && s.err == nil {
		n := min(piece, len(p)-total)
		if len(s.buf) < 4*n {
			s.buf = make([]byte, 4*n)
		}
		got, err := io.ReadFull(s.out, s.buf[:4*n])
		for i := range got / 4 {
			p[total+i] = math.Float32frombits(binary.LittleEndian.Uint32(s.buf[4*i:]))
		}
		total += got / 4
		s.samples += int64(got / 4)
		if err != nil {
			s.err = s.ended(err)
		}
	}
	if total > 0 {
		return total, nil
	}
	return 0, s.err
}

func (s *AudioSource) ended(err error) error {
	const op = "read audio"
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return fault.Cancelled.Wrap(op+" "+s.path, context.Canceled)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		s.ffmpeg.Kill()
	}
	exit := wait(s.ffmpeg)
	_ = s.out.Close()
	if ctxErr := s.ctx.Err(); ctxErr != nil {
		return fault.Cancelled.Wrap(op+" "+s.path, ctxErr)
	}
	if exit != nil {
		return exitKind(exit, fault.Input).Wrap(op+" "+s.path, exit, exitHint(exit))
	}
	if s.samples == 0 {
		return fault.Input.New(op+" "+s.path, "it has no audio samples", "check that the file can be heard in a player")
	}
	return io.EOF
}

// Close kills ffmpeg and waits for it.
func (s *AudioSource) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	kill(s.ffmpeg)
	_ = s.out.Close()
	return nil
}
