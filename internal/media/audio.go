package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// AudioSource reads the samples of one audio track, mixed to one channel. One
// goroutine may call Read; another may call Close.
type AudioSource struct {
	*reader
	buf     []byte
	samples int64
	err     error // sticky
}

// OpenAudio starts reading audio track number track (its position among the
// audio tracks). Times count from the start of the file, as for the video: a
// track that begins later starts with silence, and gaps are filled with it.
func OpenAudio(ctx context.Context, tools Tools, path string, info *Info, track, sampleRate int) (*AudioSource, error) {
	if _, err := info.track(track); err != nil {
		return nil, err
	}
	args := append(audioInput(info), "-map", "0:a:"+strconv.Itoa(track), "-vn", "-sn", "-dn",
		"-af", strings.Join(audioFilters(info, 0), ","), "-ac", "1", "-ar", strconv.Itoa(sampleRate), "-f", "f32le", "-c:a", "pcm_f32le")
	r, err := openReader(ctx, tools, "read audio "+path, args)
	return &AudioSource{reader: r}, err
}

// track returns an audio track by its position among the audio tracks.
func (i *Info) track(n int) (AudioInfo, error) {
	if err := i.NeedAudio(); err != nil {
		return AudioInfo{}, err
	}
	if n < 0 || n >= len(i.Audio) {
		return AudioInfo{}, fault.Usage.New("read audio "+i.Path, fmt.Sprintf("the file has no audio track %d, only %d tracks", n, len(i.Audio)), "choose a track, counted from 0")
	}
	return i.Audio[n], nil
}

// audioInput returns the arguments for the input. The times stay those of the file,
// which audioFilters relies on. In some containers ffmpeg's own shift would lose the
// offset between sound and picture.
func audioInput(info *Info) []string {
	return append([]string{"-copyts"}, inputArgs(info, info.Path)...)
}

// audioFilters returns filters that put sample 0 at the start of the file, fill gaps
// with silence, and cut or pad to length unless it is 0.
func audioFilters(info *Info, length time.Duration) []string {
	var f []string
	if info.Start != 0 {
		f = append(f, "asetpts=round(PTS-("+seconds(info.Start.Seconds())+")/TB)")
	}
	f = append(f, "aresample=async=1:first_pts=0")
	if length > 0 {
		f = append(f, "apad=whole_dur="+seconds(length.Seconds()), "atrim=end="+seconds(length.Seconds()))
	}
	return f
}

// Read fills p with samples and returns their number, which is less than len(p) only
// at the end. After the last sample it returns io.EOF.
func (s *AudioSource) Read(p []float32) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	// In pieces, because a caller may pass a buffer for an hour of sound.
	const piece = 1 << 14
	total := 0
	for total < len(p) && s.err == nil {
		n := min(piece, len(p)-total)
		if len(s.buf) < 4*n {
			s.buf = make([]byte, 4*n)
		}
		got, err := io.ReadFull(s.reader, s.buf[:4*n])
		for i := range got / 4 {
			p[total+i] = math.Float32frombits(binary.LittleEndian.Uint32(s.buf[4*i:]))
		}
		total += got / 4
		s.samples += int64(got / 4)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if errors.Is(err, io.EOF) && s.samples == 0 {
			err = fault.Input.New(s.op, "it has no audio samples", "check that the file can be heard in a player")
		}
		s.err = err
	}
	if total > 0 {
		return total, nil
	}
	return 0, s.err
}
