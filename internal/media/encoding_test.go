package media

import (
	"encoding/binary"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

func TestEncodingFor(t *testing.T) {
	plain := VideoInfo{Width: 64, Height: 48, ShiftX: 1, ShiftY: 1, Depth: 8, PixFmt: "yuv420p"}
	deep, alpha, rgb := plain, plain, plain
	deep.Depth, deep.PixFmt = 10, "yuv420p10le"
	alpha.HasAlpha, alpha.Depth, alpha.ShiftX, alpha.ShiftY, alpha.PixFmt = true, 12, 0, 0, "yuva444p12le"
	rgb.HasAlpha, rgb.RGB, rgb.PixFmt = true, true, "argb"
	for _, c := range []struct {
		v                  VideoInfo
		path, wish         string
		codec, pixelFormat string
	}{
		{plain, "a.mp4", "", "h264", "yuv420p"}, {plain, "a.mov", "", "h264", "yuv420p"}, {plain, "a.mkv", "", "h264", "yuv420p"},
		{deep, "a.mp4", "", "hevc", "yuv420p10le"}, {deep, "a.MOV", "", "hevc", "yuv420p10le"}, {deep, "a.mkv", "", "hevc", "yuv420p10le"},
		{deep, "a.webm", "", "vp9", "yuv420p10le"}, {deep, "a.avi", "", "h264", "yuv420p10le"}, {deep, "a.mp4", "h264", "h264", "yuv420p10le"},
		{alpha, "a.mov", "", "prores", "yuva444p10le"}, {alpha, "a.mkv", "", "ffv1", "yuva444p10le"}, {alpha, "a.webm", "", "vp9", "yuva420p"},
		{alpha, "a.avi", "", "ffv1", "yuva444p10le"}, {alpha, "a.mkv", "prores", "prores", "yuva444p10le"}, {alpha, "a.mkv", "vp9", "vp9", "yuva420p"},
		{alpha, "a.mp4", "", "hevc", "yuv444p10le"}, {alpha, "a.mp4", "vp9", "vp9", "yuv444p10le"}, {alpha, "a.mov", "h264", "h264", "yuv444p10le"},
		{rgb, "a.mov", "", "prores", "yuva444p10le"}, {rgb, "a.mkv", "", "ffv1", "yuva444p10le"}, {rgb, "a.mp4", "", "h264", "yuv420p"},
	} {
		if e := EncodingFor(c.v, c.path, c.wish); e.Codec != c.codec || e.Format.PixFmt() != c.pixelFormat {
			t.Errorf("%s %s %q: %s %s, want %s %s", c.v.PixFmt, c.path, c.wish, e.Codec, e.Format.PixFmt(), c.codec, c.pixelFormat)
		}
	}
}

// TestChooseWithout checks what happens with an ffmpeg that lacks a codec.
func TestChooseWithout(t *testing.T) {
	poor := Tools{FFmpeg: "an ffmpeg without x265"}
	coders.Store(poor.FFmpeg+"\x00-encoders", map[string]bool{"libx264": true, "prores_ks": true, "ffv1": true})
	coders.Store(poor.FFmpeg+"\x00-decoders", map[string]bool{"vp9": true})
	v := VideoInfo{Width: 64, Height: 48, ShiftX: 1, ShiftY: 1, Depth: 10, PixFmt: "yuv420p10le", Codec: "hevc"}
	info := &Info{Path: "in.mov", Video: &v}
	e, warnings, err := Choose(t.Context(), poor, info, "a.mp4", "")
	if err != nil || e.Codec != "h264" || e.Format.Depth != 10 || len(warnings) != 1 || !strings.Contains(warnings[0], "without libx265") {
		t.Errorf("%+v %q %v", e, warnings, err)
	}
	_, _, err = Choose(t.Context(), poor, info, "a.mp4", "hevc")
	wantFault(t, err, fault.Missing, "libx265")

	v = VideoInfo{Width: 64, Height: 48, ShiftX: 1, ShiftY: 1, Depth: 8, PixFmt: "yuv420p", Codec: "vp9", HasAlpha: true}
	e, warnings, err = Choose(t.Context(), poor, info, "a.mkv", "")
	if err != nil || e.Format.Alpha || len(warnings) != 1 || !strings.Contains(warnings[0], "cannot read the alpha of vp9") {
		t.Errorf("%+v %q %v", e, warnings, err)
	}
}

func TestAlphaWarnings(t *testing.T) {
	v := VideoInfo{Width: 64, Height: 48, ShiftX: 1, ShiftY: 1, Depth: 10, PixFmt: "yuva444p10le", Codec: "prores", HasAlpha: true}
	for path, want := range map[string]string{
		"a.mp4": ".mp4 files cannot keep its alpha, so what is transparent becomes black; choose an output that ends in .mov", "a.mov": "", "a.mkv": "", "a.webm": "only with 8 bits",
	} {
		_, warnings, err := Choose(t.Context(), tools(t), &Info{Path: "in.mov", Video: &v}, path, "")
		if err != nil || want == "" && len(warnings) > 0 || !strings.Contains(strings.Join(warnings, "\n"), want) {
			t.Errorf("%s: %q %v, want %q", path, warnings, err, want)
		}
	}
	_, warnings, err := Choose(t.Context(), tools(t), &Info{Path: "in.mov", Video: &v}, "a.mov", "h264")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "set `codec` to prores") {
		t.Errorf("%q %v", warnings, err)
	}
}

// encode sends a video through source and sink as a job does.
func encode(t *testing.T, in, out, codec string, change func(*SinkOptions)) *Info {
	t.Helper()
	info := probe(t, in)
	e, _, err := Choose(t.Context(), tools(t), info, out, codec)
	if err != nil {
		t.Fatal(err)
	}
	src, err := OpenVideo(t.Context(), tools(t), in, info, VideoOptions{Format: e.Format})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	o := SinkOptions{Format: e.Format, Rate: info.Video.FrameRate, Tags: WorkingTags(*info.Video, e.Format), HDR: info.Video.HDR, Codec: e.Codec, Preset: "ultrafast"}
	if change != nil {
		change(&o)
	}
	sink, err := OpenSink(t.Context(), tools(t), out, o)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	f := frame.New(e.Format)
	for err = src.Read(f); err == nil; err = src.Read(f) {
		if err := sink.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := sink.Commit(); err != nil {
		t.Fatal(err)
	}
	clean(t, filepath.Dir(out))
	return probe(t, out)
}

// alphaOf returns the alpha of all frames of a video, as ffmpeg decodes it, and its depth.
func alphaOf(t *testing.T, path string) (values []uint16, depth int) {
	t.Helper()
	v := probe(t, path).Video
	var args []string
	if name := alphaDecoders[v.Codec]; name != "" {
		args = append(args, "-c:v", name)
	}
	cmd := exec.Command(tools(t).FFmpeg, append(append([]string{"-v", "error"}, args...), "-i", path, "-map", "0:v", "-vf", "extractplanes=a", "-f", "rawvideo", "-")...)
	raw, err := cmd.Output()
	if err != nil {
		t.Fatal(path, err)
	}
	if v.Depth == 8 {
		for _, b := range raw {
			values = append(values, uint16(b))
		}
		return values, 8
	}
	for i := 0; i+1 < len(raw); i += 2 {
		values = append(values, binary.LittleEndian.Uint16(raw[i:]))
	}
	return values, v.Depth
}

// TestAlpha checks that alpha comes out as it went in, bit for bit.
func TestAlpha(t *testing.T) {
	slow(t)
	const colour = ",geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a="
	source := func(format, alpha string) string {
		return "-f lavfi -i testsrc2=s=128x64:r=25:d=0.12,setparams=range=tv,format=" + format + colour + "'" + alpha + "'"
	}
	const ramp8, ramp10 = "mod(X+Y*128,256)", "mod(X+Y*128+N,1024)"
	for _, c := range some(6, []struct{ name, make, out, codec string }{
		{"prores in mov", source("yuva444p10le", ramp10) + " -c:v prores_ks -profile:v 4444 -alpha_bits 16 a.mov", "o.mov", ""},
		{"vp9 in webm", source("yuva420p", ramp8) + " -c:v libvpx-vp9 -lossless 1 -auto-alt-ref 0 a.webm", "o.webm", ""},
		{"vp9 to prores", source("yuva420p", ramp8) + " -c:v libvpx-vp9 -lossless 1 -auto-alt-ref 0 a.webm", "o.mov", ""},
		{"prores to ffv1", source("yuva444p10le", ramp10) + " -c:v prores_ks -profile:v 4444 -alpha_bits 16 a.mov", "o.mkv", ""},
		{"qtrle to prores", source("yuva444p", ramp8) + " -pix_fmt argb -c:v qtrle a.mov", "o.mov", ""},
		{"ffv1 in mkv", source("yuva420p", ramp8) + " -c:v ffv1 a.mkv", "o.mkv", ""},
		{"png to ffv1", source("yuva444p", ramp8) + " -pix_fmt rgba -c:v png a.mov", "o.mkv", ""},
		{"apng to vp9", source("yuva444p", ramp8) + " -pix_fmt rgba -f apng a.png", "o.webm", ""},
		{"ffv1 of 10 bits in avi", source("yuva422p10le", ramp10) + " -c:v ffv1 a.mkv", "o.avi", ""},
		{"ffv1 to vp9 in mkv", source("yuva420p", ramp8) + " -c:v ffv1 a.mkv", "o.mkv", "vp9"},
		{"gbrap to ffv1", source("yuva444p", ramp8) + " -pix_fmt gbrap -c:v ffv1 a.mkv", "o.mkv", ""},
	}) {
		t.Run(c.name, func(t *testing.T) {
			in, out := generate(t, args(c.make)...), filepath.Join(t.TempDir(), c.out)
			encode(t, in, out, c.codec, func(o *SinkOptions) { o.Lossless = o.Codec == "vp9" })
			before, depth := alphaOf(t, in)
			after, now := alphaOf(t, out)
			for i := range before {
				before[i] >>= max(0, depth-now) // ffmpeg decodes the 10 bits of prores as 12
			}
			depth = min(depth, now)
			if len(before) != len(after) || now < 8 {
				t.Fatalf("%d values of %d bits became %d of %d", len(before), depth, len(after), now)
			}
			if slices.Max(before) == slices.Min(before) {
				t.Fatal("the source has no alpha")
			}
			for i, v := range before {
				if after[i]>>(now-depth) != v {
					t.Fatalf("value %d: %d became %d", i, v, after[i])
				}
			}
			if full := uint16(1)<<now - 1; slices.Max(before) == uint16(1)<<depth-1 && slices.Max(after) != full {
				t.Errorf("opaque became %d of %d", slices.Max(after), full)
			}
		})
	}
}

// TestAlphaColours checks that the colours are those of the source, not multiplied with
// alpha, also where it is transparent.
func TestAlphaColours(t *testing.T) {
	slow(t)
	const draw = "-f lavfi -i testsrc2=s=128x64:r=25:d=0.12,format=yuva420p,geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='X'"
	in, out := generate(t, args(draw, "-c:v ffv1 a.mkv")...), filepath.Join(t.TempDir(), "o.mkv")
	encode(t, in, out, "", nil)
	f := EncodingFor(*probe(t, in).Video, out, "").Format
	if !f.Alpha || !slices.Equal(readAll(t, in, VideoOptions{Format: f}), readAll(t, out, VideoOptions{Format: f})) {
		t.Error("the frames differ")
	}
}

// TestOpaque checks that an alpha channel which is not used does not count.
func TestOpaque(t *testing.T) {
	slow(t)
	for _, c := range some(2, []struct {
		make  string
		alpha bool
	}{
		{"-f lavfi -i testsrc2=s=64x48:r=10:d=0.5 a.gif", false},
		{"-f lavfi -i color=red@0.5:s=64x48:d=1,format=rgba -frames:v 1 a.png", true},
		{"-f lavfi -i color=red:s=64x48:d=1,format=rgba -frames:v 1 a.png", false},
		{"-f lavfi -i color=red@0.5:s=64x48:d=0.2,format=argb -c:v qtrle a.mov", true},
	}) {
		info := probe(t, generate(t, args(c.make)...))
		if !info.Video.HasAlpha {
			t.Fatalf("%s: no alpha channel", c.make)
		}
		if err := info.CheckAlpha(t.Context(), tools(t)); err != nil || info.Video.HasAlpha != c.alpha {
			t.Errorf("%s: alpha %v, %v", c.make, info.Video.HasAlpha, err)
		}
	}
}
