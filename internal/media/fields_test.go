package media

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// interlaced makes a video of a moving picture whose frames consist of two fields.
func interlaced(t *testing.T) string {
	return generate(t, args("-f lavfi -i testsrc2=s=160x96:r=50:d=1,scroll=h=0.03 -vf interlace,setfield=tff -c:v libx264 -preset ultrafast -crf 5 -flags +ilme+ildct -g 5 -pix_fmt yuv420p a.mp4")...)
}

// combing returns how much rows differ more from their neighbours than from the rows of
// the same field, as in frames whose fields show different times.
func combing(t *testing.T, path string, o VideoOptions) float64 {
	t.Helper()
	o.Format = WorkingFormat(*probe(t, path).Video)
	src, err := OpenVideo(t.Context(), tools(t), path, probe(t, path), o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	f := frame.New(o.Format)
	near, far := 0, 0
	diff := func(a, b byte) int { return max(int(a)-int(b), int(b)-int(a)) }
	for err = src.Read(f); err == nil; err = src.Read(f) {
		w := f.Width
		for y := 1; y < f.Height-2; y++ {
			for x := range w {
				p := f.Planes[0]
				near += diff(p[y*w+x], p[(y+1)*w+x])
				far += diff(p[y*w+x], p[(y+2)*w+x])
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return float64(near) / float64(far)
}

func TestInterlaced(t *testing.T) {
	slow(t)
	in := interlaced(t)
	v := probe(t, in).Video
	if v.Fields() != FieldsTop || v.FrameRate != (Rational{25, 1}) || v.Frames != 25 {
		t.Fatalf("%+v", v)
	}
	woven, whole := combing(t, in, VideoOptions{}), combing(t, in, VideoOptions{Deinterlace: MarkedOnly})
	if woven < 1.05 || whole > 0.95 {
		t.Errorf("combing %.2f, deinterlaced %.2f", woven, whole)
	}
	all := readAll(t, in, VideoOptions{Deinterlace: MarkedOnly})
	if len(all) != 25 {
		t.Errorf("%d frames", len(all))
	}
	// A frame is the same one wherever reading begins, also at a key frame.
	for _, first := range []int64{5, 12} {
		if got := readAll(t, in, VideoOptions{Deinterlace: MarkedOnly, Start: v.FrameRate.Time(first)}); !slices.Equal(got, all[first:]) {
			t.Errorf("from frame %d on: other frames", first)
		}
	}
	if got := readAll(t, in, VideoOptions{Deinterlace: MarkedOnly, Rate: Rational{50, 1}}); len(got) != 50 || got[20] == got[21] || got[21] == got[22] {
		t.Errorf("%d frames at twice the rate", len(got))
	}
	// Frames that the file does not mark.
	plain := generate(t, args("-i", in, "-vf setfield=prog -c:v libx264 -preset ultrafast -crf 5 a.mp4")...)
	if p := probe(t, plain).Video; p.Fields() != "" {
		t.Errorf("%+v", p)
	}
	if c := combing(t, plain, VideoOptions{Deinterlace: EveryFrame}); c > 0.95 {
		t.Errorf("combing %.2f", c)
	}
	// The fields are kept.
	for _, c := range [][3]string{{"o.mp4", "", FieldsTop}, {"o.mov", "prores", FieldsTop}, {"o.mp4", "", FieldsBottom},
		{"o.avi", "", FieldsBottom}, {"o.mov", "prores", FieldsBottom}, {"o.mkv", "ffv1", FieldsBottom}, {"o.avi", "ffv1", FieldsTop}} {
		out := filepath.Join(t.TempDir(), c[0])
		got := encode(t, in, out, c[1], func(o *SinkOptions) { o.Fields = c[2] }).Video
		// What FieldsWarning says is true.
		if kept := FieldsWarning(&VideoInfo{FieldOrder: "tt"}, KeepFields, out, got.Codec) == ""; kept && got.Fields() != c[2] || !kept && got.Fields() != "" {
			t.Errorf("%v: %+v", c, got)
		}
		if now := combing(t, out, VideoOptions{}); now < 1.05 {
			t.Errorf("%s: combing %.2f, in the source %.2f", c[0], now, woven)
		}
	}
}

func TestFieldsWarning(t *testing.T) {
	for _, c := range []struct {
		order       string
		rotation    int
		d           Deinterlace
		path, codec string
		want        string
	}{
		{"progressive", 90, KeepFields, "a.webm", "vp9", ""},
		{"tt", 0, KeepFields, "a.mp4", "hevc", ""},
		{"bb", 180, KeepFields, "a.avi", "h264", ""},
		{"bb", 0, KeepFields, "a.AVI", "ffv1", ".avi files with ffv1"},
		{"tt", 0, KeepFields, "a.webm", "vp9", ".webm files with vp9"},
		{"tt", 90, KeepFields, "a.mp4", "h264", "turned by a quarter"},
		{"tt", 90, MarkedOnly, "a.mp4", "h264", "turned by a quarter"},
		{"tt", 0, MarkedOnly, "a.webm", "vp9", ""},
	} {
		got := FieldsWarning(&VideoInfo{FieldOrder: c.order, Rotation: c.rotation}, c.d, c.path, c.codec)
		if !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestDeinterlaceFor(t *testing.T) {
	marked, plain, picture := &VideoInfo{FieldOrder: "bb"}, &VideoInfo{}, &VideoInfo{FieldOrder: "tt", IsPicture: true}
	for _, c := range []struct {
		v       *VideoInfo
		setting string
		want    Deinterlace
	}{
		{marked, "auto", MarkedOnly}, {marked, "", MarkedOnly}, {marked, "no", KeepFields}, {marked, "yes", EveryFrame},
		{plain, "auto", KeepFields}, {plain, "yes", EveryFrame}, {picture, "auto", KeepFields}, {picture, "yes", KeepFields},
	} {
		if got := DeinterlaceFor(c.v, c.setting); got != c.want {
			t.Errorf("%+v, %q: %v, want %v", c.v, c.setting, got, c.want)
		}
	}
}
