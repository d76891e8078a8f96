package media

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// container describes the files with one extension.
type container struct {
	format string   // ffmpeg's muxer
	video  []string // codecs that it takes; the first is the default
	alpha  []string // codecs that keep alpha in it; the first is the default for a video with alpha
	copies []string // audio codecs that go in as they are
	lossy  string   // audio encoder for lossy sources
	exact  string   // audio encoder for lossless sources
}

// Containers returns the file extensions that an output may have, the usual one
// first.
func Containers() []string { return []string{".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"} }

var containers = map[string]container{
	".mp4":  {"mp4", []string{"h264", "hevc", "av1", "vp9"}, nil, []string{"aac", "mp3", "ac3", "eac3", "alac"}, "aac", "aac"},
	".m4v":  {"mp4", []string{"h264", "hevc", "av1"}, nil, []string{"aac", "mp3", "ac3", "eac3", "alac"}, "aac", "aac"},
	".mov":  {"mov", []string{"h264", "hevc", "prores"}, []string{"prores"}, []string{"aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_s16be", "pcm_s24be"}, "aac", "pcm"},
	".mkv":  {"matroska", []string{"h264", "hevc", "av1", "vp9", "ffv1", "prores"}, []string{"ffv1", "vp9", "prores"}, []string{"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus", "vorbis", "dts", "truehd", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"}, "aac", "flac"},
	".webm": {"webm", []string{"vp9", "av1"}, []string{"vp9"}, []string{"opus", "vorbis"}, "libopus", "libopus"},
	".avi":  {"avi", []string{"h264", "ffv1"}, []string{"ffv1"}, []string{"mp3", "ac3", "pcm_s16le"}, "pcm", "pcm"},
}

// containerOf returns the container for the extension of an output.
func containerOf(path string) (container, error) {
	ext := strings.ToLower(filepath.Ext(path))
	c, ok := containers[ext]
	if !ok {
		return c, fault.Usage.New("write video "+path, fmt.Sprintf("the extension %q is not that of a video container", ext),
			"let its name end in one of "+strings.Join(Containers(), ", "))
	}
	return c, nil
}

// encoderNames of each codec, in order of preference.
var encoderNames = map[string][]string{
	"h264": {"libx264"}, "hevc": {"libx265"}, "vp9": {"libvpx-vp9"}, "av1": {"libsvtav1", "libaom-av1"},
	"prores": {"prores_ks"}, "ffv1": {"ffv1"},
}

// presets are those of x264, the slowest last. Those of the other encoders are
// derived from them.
var presets = []string{"ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"}

// chooseCodec returns the codec and its encoder. It checks that the container
// and ffmpeg support the wish.
func chooseCodec(ctx context.Context, tools Tools, path string, c container, wish string, f frame.Format) (codec, encoder string, err error) {
	codec = cmp.Or(wish, c.video[0])
	names, ok := encoderNames[codec]
	if !ok {
		return "", "", fault.Field("codec", codec, "is not a known codec", "choose one of h264, hevc, vp9, av1, prores, ffv1")
	}
	if !slices.Contains(c.video, codec) {
		return "", "", fault.Field("codec", codec, fmt.Sprintf("cannot be stored in %s files", strings.ToLower(filepath.Ext(path))), "choose one of "+strings.Join(c.video, ", ")+" or another extension")
	}
	for _, name := range names {
		if name == "libsvtav1" && (f.ShiftX != 1 || f.ShiftY != 1) {
			continue // it only supports 4:2:0
		}
		ok, err := tools.has(ctx, "-encoders", name)
		if err != nil {
			return "", "", err
		}
		if ok {
			return codec, name, nil
		}
	}
	return "", "", fault.Missing.New("choose codec "+codec, "this ffmpeg was built without "+strings.Join(names, " or "),
		"run lipstream runtime install ffmpeg for a full build, or choose another `codec`")
}

// videoCodecArgs returns the arguments for the video encoder.
func videoCodecArgs(encoder, pixFmt string, o *SinkOptions) ([]string, error) {
	preset := cmp.Or(o.Preset, DefaultPreset)
	speed := slices.Index(presets, preset)
	if speed < 0 {
		return nil, fault.Field("preset", preset, "is not a known preset", "choose one of "+strings.Join(presets, ", "))
	}
	args := []string{"-c:v", encoder, "-pix_fmt", pixFmt}
	crf := 24             // visually lossless
	var lossless []string // options without any loss
	switch encoder {
	case "libx264":
		args = append(args, "-preset", preset)
		if o.Fields != "" {
			args = append(args, "-flags", "+ilme+ildct")
		}
		p := o.HDR.x264()
		if o.Fields == FieldsBottom {
			p = append(p, "bff=1") // ffmpeg's flags alone mean the top field first
		}
		if len(p) > 0 {
			args = append(args, "-x264-params", strings.Join(p, ":"))
		}
		crf = 18
		lossless = []string{"-qp", "0"} // some builds reject -crf 0 at high bit depths
	case "libx265":
		params := append([]string{"log-level=error"}, o.HDR.x265()...)
		if o.Lossless {
			params = append(params, "lossless=1")
		}
		args = append(args, "-preset", preset, "-tag:v", "hvc1", "-x265-params", strings.Join(params, ":"))
		crf, lossless = 20, []string{} // params says it
	case "libvpx-vp9":
		args = append(args, "-deadline", "good", "-cpu-used", strconv.Itoa(8-speed), "-row-mt", "1", "-b:v", "0")
		lossless = []string{"-lossless", "1"}
		if o.Format.Alpha {
			// Hidden frames would have to be the same ones in both pictures.
			args = append(args, "-auto-alt-ref", "0")
		}
	case "libsvtav1":
		args = append(args, "-preset", strconv.Itoa(12-speed))
	case "libaom-av1":
		args = append(args, "-b:v", "0", "-row-mt", "1", "-cpu-used", strconv.Itoa(max(2, min(8, 9-speed))))
	case "prores_ks":
		profile, pf := "3", "yuv422p10le"
		if strings.HasPrefix(pixFmt, "yuv444p") {
			profile, pf = "4", "yuv444p10le"
		}
		args = []string{"-c:v", encoder, "-vendor", "apl0"}
		if o.Fields != "" {
			args = append(args, "-flags", "+ildct")
		}
		if o.Format.Alpha {
			profile, pf = "4", "yuva444p10le"
			args = append(args, "-alpha_bits", "16")
		}
		return append(args, "-profile:v", profile, "-pix_fmt", pf), nil
	case "ffv1":
		return append(args, "-level", "3", "-slicecrc", "1"), nil
	}
	if !o.Lossless {
		return append(args, "-crf", strconv.Itoa(cmp.Or(o.CRF, crf))), nil
	}
	if lossless == nil {
		return nil, fault.Field("codec", "av1", "has no lossless mode in Lipstream", "choose ffv1, h264, hevc or vp9")
	}
	return append(args, lossless...), nil
}

// aacRates are the sample rates of AAC, the highest first.
var aacRates = []int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000}

// audioCodecArgs returns the arguments for encoding the first audio track. The sample
// rate and the channels stay as they are if the codec supports them.
func audioCodecArgs(c container, a AudioInfo) []string {
	name := c.lossy
	if lossless(a.Codec) {
		name = c.exact
	}
	switch name {
	case "pcm":
		if a.Bits > 16 && c.format == "mov" {
			return []string{"-c:a:0", "pcm_s24le"}
		}
		return []string{"-c:a:0", "pcm_s16le"}
	case "flac":
		if a.Channels <= 8 && a.SampleRate <= 655350 {
			format := "s16"
			if a.Bits > 16 {
				format = "s32" // FLAC keeps 24 of them
			}
			return []string{"-c:a:0", "flac", "-sample_fmt:a:0", format}
		}
	case "libopus":
		family := "0" // mono and stereo
		if a.Channels > 2 {
			family = "1"
		}
		// Opus supports 48 kHz and a few fractions of it.
		return []string{"-c:a:0", "libopus", "-ar:a:0", "48000", "-b:a:0", strconv.Itoa(max(128, 96*a.Channels)) + "k", "-mapping_family:a:0", family}
	}
	rate := aacRates[0]
	for _, r := range aacRates {
		if r >= a.SampleRate {
			rate = r // the lowest that loses nothing
		}
	}
	// AAC allows 6144 bits in a frame of 1024 samples for each channel.
	bits := min(max(160_000, 128_000*a.Channels), 6*rate*max(1, a.Channels))
	args := []string{"-c:a:0", "aac", "-ar:a:0", strconv.Itoa(rate), "-b:a:0", strconv.Itoa(bits)}
	if a.Channels > 8 {
		args = append(args, "-ac:a:0", "2")
	}
	return args
}

// lossless reports whether a codec of sound loses nothing.
func lossless(codec string) bool {
	return strings.HasPrefix(codec, "pcm_") || slices.Contains([]string{"flac", "alac", "wavpack", "truehd"}, codec)
}

// layouts are the usual names of layouts by the number of channels.
var layouts = []string{1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}

// opusLayout returns the filter that names the channels as Opus does, or "".
// Opus refuses 5.1(side), the layout of AC-3 and DTS.
func opusLayout(a AudioInfo) string {
	if a.Channels < 3 || a.Channels >= len(layouts) {
		return ""
	}
	return "aformat=channel_layouts=" + layouts[a.Channels]
}
