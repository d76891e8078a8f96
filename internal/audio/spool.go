package audio

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	pcmScale   = 32768 // of a sample in 16 bits
	pcmPiece   = 1 << 14
	melPiece   = 512        // columns read at a time: 164 KB of sound
	leastVoice = 2 * MelHop // samples of one feature: 20 ms
	spoolHint  = "free some space, or set " + disk.TempVariable + " to a folder with room: an hour of speech takes 115 MB"
	openEnd    = math.MaxInt64 // the length of a voice that is still being written

	keepVoice  = "keep the voice in a temporary file"
	computeMel = "compute the log-mel"
)

// spool keeps a voice as 16-bit mono PCM at SampleRate in a temporary file
// (115 MB an hour), so that Whisper's log-mel can be computed for any part of
// it in memory that does not depend on its length. The original computes the
// whole log-mel at once and clips it at a depth below its loudest value (spec
// 2.1); the spool finds that value while the voice is written.
//
// One goroutine calls write, then finish; after that any number of goroutines
// may call mel. Nothing is left of the file, even if the process is killed.
type spool struct {
	file  *os.File
	out   *bufio.Writer
	total int64 // samples in the file
	done  bool

	spectrum *melSpectrum // while writing
	recent   []int16      // the samples from first on
	first    int64
	next     int64   // the first column that is not part of loudest
	loudest  float64 // mel power
}

// newSpool creates an empty spool with its file in dir. Its errors have the
// kind fault.Output.
func newSpool(dir string) (*spool, error) {
	f, err := disk.Unnamed(dir)
	if err != nil {
		return nil, fault.Output.Wrap(keepVoice, err, spoolHint)
	}
	return &spool{file: f, out: bufio.NewWriterSize(f, 2*pcmPiece), spectrum: newMelSpectrum()}, nil
}

// write adds samples, -1..1, rounded to 16 bits as ffmpeg does for the original
// (spec 1.4), so that samples that came from 16 bits stay exact. It clips what
// is out of range; NaN counts as silence. Its errors, such as a full disk, have
// the kind fault.Output.
func (s *spool) write(samples []float32) error {
	if s.done {
		return fault.Internal.New(keepVoice, "the voice has already ended")
	}
	for len(samples) > 0 {
		n := min(pcmPiece, len(samples))
		if err := s.add(samples[:n]); err != nil {
			return err
		}
		samples = samples[n:]
	}
	return nil
}

// add writes a piece and updates the maximum with the columns that it completes.
func (s *spool) add(samples []float32) error {
	from := len(s.recent)
	for _, x := range samples {
		s.recent = append(s.recent, quantise(x))
	}
	if err := binary.Write(s.out, binary.LittleEndian, s.recent[from:]); err != nil {
		return fault.Output.Wrap(keepVoice, err, spoolHint)
	}
	s.total += int64(len(samples))
	// Column k ends before k·MelHop+melReach; column 0, mirrored at the start,
	// needs one sample more.
	s.updateLoudest((s.total-melReach-1+MelHop)/MelHop, openEnd)
	keep := min(int64(len(s.recent)), max(0, s.next*MelHop-melReach-s.first))
	s.recent = append(s.recent[:0], s.recent[keep:]...)
	s.first += keep
	return nil
}

// updateLoudest updates the maximum with the columns before end.
func (s *spool) updateLoudest(end, total int64) {
	var powers [MelBands]float64
	for ; s.next < end; s.next++ {
		if melMost(s.spectrum.cut(s.next, s.recent, s.first, total)) <= s.loudest {
			continue // most columns of speech are so soft, and the transform takes most of the time
		}
		s.spectrum.bands(&powers)
		for _, p := range powers {
			s.loudest = max(s.loudest, p)
		}
	}
}

func quantise(x float32) int16 {
	v := math.RoundToEven(float64(x) * pcmScale)
	if v != v {
		return 0
	}
	return int16(max(-pcmScale, min(v, pcmScale-1)))
}

// finish ends the writing. A voice shorter than 20 ms, for which the original
// fails, is padded with silence to that length.
func (s *spool) finish() error {
	if short := leastVoice - s.total; short > 0 {
		if err := s.add(make([]float32, short)); err != nil {
			return err
		}
	}
	if err := s.out.Flush(); err != nil {
		return fault.Output.Wrap(keepVoice, err, spoolHint)
	}
	s.done = true
	s.updateLoudest(s.melFrames(), s.total)
	s.out, s.spectrum, s.recent = nil, nil, nil
	return nil
}

func (s *spool) melFrames() int64 { return s.total / MelHop }

// mel implements Voice.Mel, after finish.
func (s *spool) mel(ctx context.Context, start, count int64) ([]float32, error) {
	if err := s.checkRange(start, count); err != nil {
		return nil, err
	}
	out, floor := make([]float32, MelBands*count), logPower(s.loudest)-melDepth
	err := s.columns(ctx, clip{total: s.total}, start, min(start+count, s.melFrames()), func(k int64, powers *[MelBands]float64) {
		for row, p := range powers {
			out[int64(row)*count+k-start] = normalized(max(logPower(p), floor))
		}
	})
	return out, err
}

// segment implements Voice.MelSegment, after finish.
func (s *spool) segment(ctx context.Context, start, count int64) (mel []float32, silence float32, err error) {
	if err := s.checkRange(start, count); err != nil {
		return nil, 0, err
	}
	c := clip{start: start * MelHop, total: count * MelHop}
	sounding := max(0, min(c.total, s.total-c.start)) // samples before the padding
	// The logarithms come first, because the floor depends on all of them.
	out, loudest := make([]float32, MelBands*count), logPower(0)
	for i := range out {
		out[i] = float32(logPower(0))
	}
	err = s.columns(ctx, c, 0, min(count, (sounding+melReach+MelHop-1)/MelHop), func(k int64, powers *[MelBands]float64) {
		for row, p := range powers {
			l := logPower(p)
			loudest = max(loudest, l)
			out[int64(row)*count+k] = float32(l)
		}
	})
	floor := max(logPower(0), loudest-melDepth)
	for i, l := range out {
		out[i] = normalized(max(float64(l), floor))
	}
	return out, normalized(floor), err
}

func (s *spool) checkRange(start, count int64) error {
	if !s.done || start < 0 || count < 0 {
		return fault.Internal.New(computeMel, fmt.Sprintf("%d columns from %d, with all samples written: %v", count, start, s.done))
	}
	return nil
}

// normalized returns a value of a log-mel from a logarithm that is not below its floor.
func normalized(l float64) float32 { return float32((l + 4) / 4) }

// clip is a stretch of total samples from sample start on, as a voice of its own. It is
// padded with zeros beyond the end of the voice.
type clip struct{ start, total int64 }

// columns passes the powers of columns from (inclusive) to to (exclusive) of a clip to f.
func (s *spool) columns(ctx context.Context, c clip, from, to int64, f func(k int64, powers *[MelBands]float64)) error {
	m := newMelSpectrum()
	var powers [MelBands]float64
	for k := from; k < to; {
		if err := ctx.Err(); err != nil {
			return fault.Cancelled.Wrap(computeMel, err)
		}
		stop := min(k+melPiece, to)
		pcm, first, err := s.read(c, k, stop)
		if err != nil {
			return fault.Output.Wrap(computeMel, err)
		}
		for ; k < stop; k++ {
			m.column(k, pcm, first, c.total, &powers)
			f(k, &powers)
		}
	}
	return nil
}

// read returns the samples of a clip that columns start to end-1 need, and the number of
// the first.
func (s *spool) read(c clip, start, end int64) (pcm []int16, first int64, err error) {
	first = max(0, start*MelHop-melReach)
	last := min(c.total, (end-1)*MelHop+melReach+1) // one more for column 0, see add
	pcm = make([]int16, last-first)
	written := pcm[:max(0, min(last, s.total-c.start)-first)]
	err = binary.Read(io.NewSectionReader(s.file, 2*(c.start+first), 2*int64(len(written))), binary.LittleEndian, written)
	if errors.Is(err, io.EOF) && len(written) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return pcm, first, err
}

func (s *spool) close() error {
	return fault.Output.Wrap("close the voice's temporary file", s.file.Close())
}

func (s *spool) silence() float32 {
	return normalized(max(logPower(0), logPower(s.loudest)-melDepth))
}
