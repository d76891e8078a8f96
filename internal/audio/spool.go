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
	"runtime"

	"github.com/lipstream/lipstream/internal/fault"
)

const (
	pcmScale   = 32768 // of a sample in 16 bits
	pcmPiece   = 1 << 14
	melPiece   = 512        // columns read at a time: 164 KB of sound
	leastVoice = 2 * MelHop // samples of one feature: 20 ms
	spoolHint  = "free some space, or set TMPDIR to a folder with room: an hour of speech takes 115 MB"
	openEnd    = math.MaxInt64 // the length of a voice that is still being written
)

// Spool keeps a voice as 16-bit mono PCM at SampleRate in a temporary file
// (115 MB an hour) so that Whisper's log-mel can be computed for any part of
// it, in memory that does not depend on its length. The original computes the
// log-mel at once and cuts it off at a depth below the loudest value of the
// whole file (docs/spec/latentsync.md 2.1 Log-mel); that value is found while the voice is written.
//
// First Write by one goroutine, then Finish, then Mel by any number of them.
// On Windows Close removes the file; elsewhere it has no name from the start,
// so that nothing is left whatever happens to the process.
type Spool struct {
	file    *os.File
	out     *bufio.Writer
	written int64 // samples given to Write
	total   int64 // samples in the file, with the silence of Finish
	done    bool

	spectrum *melSpectrum // while writing
	recent   []int16      // the samples from first on
	first    int64
	next     int64   // first column that loudest does not know
	loudest  float64 // mel power
}

// NewSpool makes an empty spool with its file in dir ("": the system's folder
// for temporary files). The error has the kind fault.Output.
func NewSpool(dir string) (*Spool, error) {
	f, err := os.CreateTemp(dir, "lipstream-voice-*")
	if err == nil && runtime.GOOS != "windows" {
		if err = os.Remove(f.Name()); err != nil {
			_ = f.Close()
		}
	}
	if err != nil {
		return nil, fault.Output.Wrap("keep the voice in a temporary file", err, spoolHint)
	}
	return &Spool{file: f, out: bufio.NewWriterSize(f, 2*pcmPiece), spectrum: newMelSpectrum()}, nil
}

// Write adds samples, -1..1, rounded to 16 bits as ffmpeg does for the original
// (docs/spec/latentsync.md 1.4 Reading audio): what came from 16 bits stays exact. What is beyond the range is
// clipped; NaN counts as silence. The error, of a full disk for example, has
// the kind fault.Output.
func (s *Spool) Write(samples []float32) error {
	if s.done {
		return fault.Internal.New("keep the voice "+s.file.Name(), "more samples after the last")
	}
	s.written += int64(len(samples))
	for len(samples) > 0 {
		n := min(pcmPiece, len(samples))
		if err := s.add(samples[:n]); err != nil {
			return fault.Output.Wrap("keep the voice in "+s.file.Name(), err, spoolHint)
		}
		samples = samples[n:]
	}
	return nil
}

// add writes a piece and looks at the columns that are complete with it.
func (s *Spool) add(samples []float32) error {
	from := len(s.recent)
	for _, x := range samples {
		s.recent = append(s.recent, quantise(x))
	}
	if err := binary.Write(s.out, binary.LittleEndian, s.recent[from:]); err != nil {
		return err
	}
	s.total += int64(len(samples))
	// Column k ends before k·MelHop+melReach; column 0, mirrored at the start,
	// needs one sample more.
	s.listen((s.total-melReach-1+MelHop)/MelHop, openEnd)
	keep := min(int64(len(s.recent)), max(0, s.next*MelHop-melReach-s.first))
	s.recent = append(s.recent[:0], s.recent[keep:]...)
	s.first += keep
	return nil
}

// listen updates the maximum with the columns before end.
func (s *Spool) listen(end, total int64) {
	var powers [MelBands]float64
	for ; s.next < end; s.next++ {
		s.spectrum.column(s.next, s.recent, s.first, total, &powers)
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

// Finish ends the writing. A voice of less than 20 ms, of which the original
// fails to make a feature, is followed by silence up to that length.
func (s *Spool) Finish() error {
	if s.done {
		return nil
	}
	if short := leastVoice - s.total; short > 0 {
		if err := s.add(make([]float32, short)); err != nil {
			return fault.Output.Wrap("keep the voice in "+s.file.Name(), err, spoolHint)
		}
	}
	if err := s.out.Flush(); err != nil {
		return fault.Output.Wrap("keep the voice in "+s.file.Name(), err, spoolHint)
	}
	s.done = true
	s.listen(s.MelFrames(), s.total)
	s.out, s.spectrum, s.recent = nil, nil, nil
	return nil
}

// Samples is how many samples were written.
func (s *Spool) Samples() int64 { return s.written }

// MelFrames is the number of columns of the voice's log-mel: one for each
// whole MelHop of samples, after Finish at least 2.
func (s *Spool) MelFrames() int64 { return s.total / MelHop }

// Mel computes columns start..start+count−1 (both ≥ 0) of the normalised
// log-mel (docs/spec/latentsync.md 2.1 Log-mel): MelBands rows of count values, row-major, about
// -1.5..1.5. Columns from MelFrames on are zeros, as the original pads the
// last segment (docs/spec/latentsync.md 2.2 Segmentation). A column is the same to the bit whatever part it is
// asked with. It works after Finish; an error of reading the file has the kind
// fault.Output, as one of writing it.
func (s *Spool) Mel(ctx context.Context, start, count int64) ([]float32, error) {
	const op = "compute the log-mel"
	if !s.done || start < 0 || count < 0 {
		return nil, fault.Internal.New(op, fmt.Sprintf("columns %d to %d asked for, finished: %v", start, start+count-1, s.done))
	}
	out := make([]float32, MelBands*count)
	m, floor := newMelSpectrum(), logPower(s.loudest)-melDepth
	var powers [MelBands]float64
	for at, end := start, min(start+count, s.MelFrames()); at < end; {
		if err := ctx.Err(); err != nil {
			return nil, fault.Cancelled.Wrap(op, err)
		}
		stop := min(at+melPiece, end)
		pcm, first, err := s.read(at, stop)
		if err != nil {
			return nil, fault.Output.Wrap(op+" from"+" "+s.file.Name(), err)
		}
		for ; at < stop; at++ {
			m.column(at, pcm, first, s.total, &powers)
			for row, p := range powers {
				out[int64(row)*count+at-start] = float32((max(logPower(p), floor) + 4) / 4)
			}
		}
	}
	return out, nil
}

// read gives the samples that columns start..end−1 need, and the first's number.
func (s *Spool) read(start, end int64) (pcm []int16, first int64, err error) {
	first = max(0, start*MelHop-melReach)
	last := min(s.total, (end-1)*MelHop+melReach+1) // one more for column 0, see add
	data := make([]byte, 2*(last-first))
	if _, err := s.file.ReadAt(data, 2*first); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, 0, err
	}
	pcm = make([]int16, last-first)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm, first, nil
}

// Close gives the disk space back. Nothing may be asked of the spool after it.
func (s *Spool) Close() error {
	err := s.file.Close()
	if runtime.GOOS == "windows" {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return fault.Output.Wrap("remove "+s.file.Name(), err)
}

// Silence is the least value that this voice's normalised log-mel can take:
// what digital silence in it would look like. It is known after Finish.
func (s *Spool) Silence() float32 {
	return float32((max(logPower(0), logPower(s.loudest)-melDepth) + 4) / 4)
}
