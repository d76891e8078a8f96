package media

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// args returns ffmpeg's arguments for encoding frames from its standard input.
func (s *Sink) args(ctx context.Context) ([]string, error) {
	o, f := &s.o, s.o.Format
	codec, encoder, err := chooseCodec(ctx, s.tools, s.path, s.cont, o.Codec, f)
	if err != nil {
		return nil, err
	}
	s.codec = codec
	encode, err := videoCodecArgs(encoder, f.PixFmt(), o)
	if err != nil {
		return nil, err
	}
	in := []string{
		// The whitelist comes first: it is meant for this input.
		"-protocol_whitelist", "file,pipe", "-thread_queue_size", "2",
		"-f", "rawvideo", "-pix_fmt", f.PixFmt(), "-video_size", fmt.Sprintf("%dx%d", f.Width, f.Height),
		"-framerate", o.Rate.String(), "-i", "pipe:0"}
	video := append([]string{"-vf", strings.Join(s.filters(), ",")}, encode...)
	video = append(append(video, s.tools.fpsMode("cfr")...), "-r", o.Rate.String())
	for _, t := range o.Tags.set() {
		video = append(video, t.option, t.value)
	}
	return s.muxArgs(in, video, s.temp)
}

// copyArgs returns the arguments that copy the finished pictures to another file and
// make the sound anew, as long as o.Duration says.
func (s *Sink) copyArgs(to string) ([]string, error) {
	info, err := Probe(s.ctx, s.tools, s.temp)
	if err == nil {
		err = info.NeedVideo()
	}
	if err != nil {
		return nil, err
	}
	var in []string
	// Matroska has moved the pictures behind the priming of its sound; the new
	// sound brings its own.
	if at := info.Start + info.Video.Start; at != 0 {
		in = append(in, "-itsoffset", seconds(-at.Seconds()))
	}
	return s.muxArgs(append(in, "-protocol_whitelist", "file,pipe", "-i", fileURL(s.temp)), []string{"-c:v", "copy"}, to)
}

// muxArgs returns the arguments that write a video and the sound to a file. in is the
// input of the video, and video holds the options for it.
func (s *Sink) muxArgs(in, video []string, to string) ([]string, error) {
	o := &s.o
	soundIn, sound, err := s.audioArgs()
	if err != nil {
		return nil, err
	}
	inputs := 1
	if o.Audio != nil {
		inputs += 1 + len(o.Mix)
	}
	extraIn, extra, err := s.extraArgs(inputs, slices.Contains(soundIn, "-copyts"))
	if err != nil {
		return nil, err
	}
	args := slices.Concat(in, soundIn, extraIn, []string{"-map", "0:v:0"}, sound, video, extra)
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
	if o.Format.Alpha && s.codec == "vp9" {
		args = append(args, "-metadata:s:v:0", "alpha_mode=1") // when the pictures are copied
	}
	return append(args, "-f", s.cont.format, fileURL(to)), nil
}

// extraArgs returns the arguments for o.Extras, if there are before inputs already.
func (s *Sink) extraArgs(before int, copyts bool) (in, out []string, err error) {
	if s.o.Extras == nil {
		return nil, noMetadata, nil
	}
	return s.o.Extras.args(s, before, copyts)
}

// removeLists removes the files that Extras.args has written.
func (s *Sink) removeLists() {
	for _, suffix := range []string{tracksSuffix, textSuffix, chaptersSuffix} {
		_ = os.Remove(s.beside(suffix))
	}
}

// mp4Keys are the metadata keys that MP4 defines.
var mp4Keys = map[string]bool{"title": true, "comment": true, "artist": true, "description": true, "date": true,
	"copyright": true, "genre": true, "album": true, "encoder": true, "encoding_tool": true}

// filters returns filters that tag the frames with their colours before the
// encoder, so that no version of ffmpeg converts them.
func (s *Sink) filters() []string {
	sar := s.o.SampleAspect
	if !sar.Valid() {
		sar = Rational{1, 1}
	}
	// The default limit of 100 would turn 32011/32044 into 1/1.
	out := []string{"setsar=" + sar.String() + ":max=65535"}
	var params []string
	for _, t := range s.o.Tags.set() {
		params = append(params, t.param+"="+t.value)
	}
	if len(params) > 0 {
		out = append(out, "setparams="+strings.Join(params, ":"))
	}
	if s.o.Fields != "" {
		// If the encoder needs another format, each field is converted on its own.
		out = append(out, "setfield="+s.o.Fields, "scale=interl=1:"+scaleFlags)
	}
	return out
}

// tag is a colour tag: ffmpeg's option for it, the parameter of its filter setparams,
// and the value.
type tag struct{ option, param, value string }

// set returns the tags that are known.
func (t Tags) set() []tag {
	all := []tag{{"-color_range", "range", t.Range}, {"-colorspace", "colorspace", t.Space},
		{"-color_primaries", "color_primaries", t.Primaries}, {"-color_trc", "color_trc", t.Transfer}}
	return slices.DeleteFunc(all, func(t tag) bool { return t.value == "" })
}

// copySlack is how far a copied track may end from the video's end: a packet
// or two.
const copySlack = 60 * time.Millisecond

// audioArgs returns the arguments for the audio input, and the audio options of the
// output.
func (s *Sink) audioArgs() (in, out []string, err error) {
	o, cont := &s.o, s.cont
	if o.Audio == nil {
		return nil, nil, nil
	}
	if len(o.Mix) > 0 {
		return s.mixArgs()
	}
	a, err := o.Audio.track(o.AudioTrack)
	if err != nil {
		return nil, nil, err
	}
	out = []string{"-map", "1:a:" + strconv.Itoa(o.AudioTrack)}
	if a.Language != "" {
		out = append(out, "-metadata:s:a:0", "language="+a.Language)
	}
	// A copy cannot be cut or padded to the sample, so only a track that fits
	// already is copied. In MPEG-TS a copy would lose the offset between sound and
	// picture.
	fits := o.Duration <= 0 || a.Duration > 0 && (a.Start+a.Duration-o.Duration).Abs() <= copySlack
	if fits && (a.Start < time.Millisecond || seekable(o.Audio.Container)) && slices.Contains(cont.copies, a.Codec) {
		return inputArgs(o.Audio, o.Audio.Path), append(out, "-c:a:0", "copy"), nil
	}
	filters := audioFilters(o.Audio, o.Duration)
	if f := opusLayout(a); f != "" && cont.lossy == "libopus" {
		filters = append(filters, f)
	}
	out = append(out, "-filter:a:0", strings.Join(filters, ","))
	return audioInput(o.Audio), append(out, audioCodecArgs(cont, a)...), nil
}
