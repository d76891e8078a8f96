package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// mixPeak is the largest sample of a mix, as a share of full scale: -0.5 dB. Encoders
// need a little room.
const mixPeak = 0.944

// mixed returns what the mix of several files has: the most channels and the highest
// rate of them. It is lossless if all are.
func mixed(files []*Info) (m AudioInfo, err error) {
	for i, f := range files {
		a, err := f.track(f.DefaultAudio())
		if err != nil {
			return m, err
		}
		if i == 0 || !lossless(a.Codec) {
			m.Codec = a.Codec
		}
		m.Channels, m.SampleRate, m.Bits = max(m.Channels, a.Channels), max(m.SampleRate, a.SampleRate), max(m.Bits, a.Bits)
	}
	m.Channels = min(m.Channels, len(layouts)-1)
	return m, nil
}

// mixFilter returns a filter graph that adds up the sound of input files, of which first
// is the number of the first one, as [mix]. All start at the same time. A mono voice is
// heard from both sides of a stereo mix, as in a player.
func (s *Sink) mixFilter(files []*Info, m AudioInfo, first int, gain float64) string {
	layout := layouts[m.Channels]
	var b, all strings.Builder
	for i, f := range files {
		track := f.DefaultAudio()
		filters := append(audioFilters(f, s.o.Duration), "aresample="+strconv.Itoa(m.SampleRate), "aformat=sample_fmts=fltp")
		if f.Audio[track].Channels == 1 && m.Channels == 2 {
			filters = append(filters, "pan=stereo|c0=c0|c1=c0")
		} else {
			filters = append(filters, "aformat=channel_layouts="+layout)
		}
		fmt.Fprintf(&b, "[%d:a:%d]%s[voice%d];", first+i, track, strings.Join(filters, ","), i)
		fmt.Fprintf(&all, "[voice%d]", i)
	}
	fmt.Fprintf(&b, "%samerge=inputs=%d,pan=%s", all.String(), len(files), layout)
	for c := range m.Channels {
		terms := make([]string, len(files))
		for i := range files {
			terms[i] = fmt.Sprintf("%.6f*c%d", gain, c+i*m.Channels)
		}
		fmt.Fprintf(&b, "|c%d=%s", c, strings.Join(terms, "+"))
	}
	return b.String() + "[mix]"
}

// mixArgs returns the arguments for the inputs and for the sound of a mix.
func (s *Sink) mixArgs() (in, out []string, err error) {
	files := slices.Concat([]*Info{s.o.Audio}, s.o.Mix)
	m, err := mixed(files)
	if err != nil {
		return nil, nil, err
	}
	if s.gain == 0 {
		if s.gain, err = s.mixGain(files, m); err != nil {
			return nil, nil, err
		}
	}
	graph := s.mixFilter(files, m, 1, s.gain)
	if f := opusLayout(m); f != "" && s.cont.lossy == "libopus" {
		graph = strings.TrimSuffix(graph, "[mix]") + "," + f + "[mix]"
	}
	for _, f := range files {
		in = append(in, audioInput(f)...)
	}
	return in, append([]string{"-filter_complex", graph, "-map", "[mix]"}, audioCodecArgs(s.cont, m)...), nil
}

// mixGain returns the gain of all voices, at most 1: it keeps their sum below mixPeak. It
// decodes the whole sound.
func (s *Sink) mixGain(files []*Info, m AudioInfo) (float64, error) {
	var args []string
	for _, f := range files {
		args = append(args, audioInput(f)...)
	}
	args = append(args, "-filter_complex", s.mixFilter(files, m, 0, 1), "-map", "[mix]", "-f", "f32le", "-c:a", "pcm_f32le")
	r, err := openReader(s.ctx, s.tools, "mix the voices of "+s.path, args)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	peak, buf := 0.0, make([]byte, 1<<16)
	for {
		n, err := io.ReadFull(r, buf)
		for i := 0; i+4 <= n; i += 4 {
			peak = max(peak, math.Abs(float64(math.Float32frombits(binary.LittleEndian.Uint32(buf[i:])))))
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if math.IsNaN(peak) || math.IsInf(peak, 0) {
				return 0, fault.Input.New("mix the voices of "+s.path, "they have samples that are not numbers", "convert them to WAV with 16 bits")
			}
			return mixPeak / max(mixPeak, peak), nil
		case err != nil:
			return 0, err
		}
	}
}
