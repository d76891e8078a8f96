package media

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

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
		return nil, fault.Output.New(writeOp+" "+s.path, "the file that ffmpeg wrote has no video")
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

// mp4Keys are the metadata keys that MP4 defines.
var mp4Keys = map[string]bool{"title": true, "comment": true, "artist": true, "description": true, "date": true,
	"copyright": true, "genre": true, "album": true, "encoder": true, "encoding_tool": true}

// filters returns filters that tag the frames with their colours before the
// encoder, so that no version of ffmpeg converts them.
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
	// The default limit of 100 would turn 32011/32044 into 1/1.
	out := []string{"setsar=" + sar.String() + ":max=65535"}
	if len(set) > 0 {
		out = append(out, "setparams="+strings.Join(set, ":"))
	}
	return out
}

// copySlack is how far a copied track may end from the video's end: a packet
// or two.
const copySlack = 60 * time.Millisecond

// audioArgs adds the audio input to args and returns the audio options of the
// output.
func (s *Sink) audioArgs(args *[]string) ([]string, error) {
	o, cont := &s.o, s.cont
	if o.Audio == nil {
		return nil, nil
	}
	if err := o.Audio.NeedAudio(); err != nil {
		return nil, err
	}
	if o.AudioTrack < 0 || o.AudioTrack >= len(o.Audio.Audio) {
		return nil, fault.Usage.New(writeOp+" "+o.Audio.Path, fmt.Sprintf("the file has no audio track %d", o.AudioTrack), "choose a track, counted from 0")
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
	// In MPEG-TS a copy would lose the offset between sound and picture.
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
