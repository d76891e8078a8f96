package media

import (
	"path/filepath"
	"strings"
	"testing"
)

// grading is what x265 calls a display of 1000 cd/m² with the primaries of P3.
const grading = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"

// hdrVideo makes a short HDR10 video.
func hdrVideo(t *testing.T) string {
	return generate(t, args(testVideo("64x64", "25", "0.2"), "-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc",
		"-c:v libx265 -preset ultrafast -pix_fmt yuv420p10le -x265-params log-level=error:"+grading,
		"-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc a.mp4")...)
}

func TestHDR(t *testing.T) {
	slow(t)
	in := hdrVideo(t)
	before := probe(t, in).Video
	if before.HDR == nil || !before.HDR.static() {
		t.Fatalf("source %+v", before.HDR)
	}
	if got := strings.Join(before.HDR.x265(), ":"); got != grading {
		t.Errorf("%q", got)
	}
	for _, name := range []string{"o.mp4", "o.mkv"} {
		out := filepath.Join(t.TempDir(), name)
		after := encode(t, in, out, "", nil).Video
		if after.Codec != "hevc" || after.PixFmt != "yuv420p10le" || after.ColorTransfer != "smpte2084" || after.ColorPrimaries != "bt2020" || after.ColorSpace != "bt2020nc" {
			t.Errorf("%s: %+v", name, after)
		}
		if after.HDR == nil || *after.HDR != *before.HDR {
			t.Errorf("%s: %+v, want %+v", name, after.HDR, before.HDR)
		}
		// Joining copies it.
		joined := filepath.Join(t.TempDir(), name)
		if err := Join(t.Context(), tools(t), []string{out, out}, joined, SinkOptions{Format: WorkingFormat(*after), Rate: after.FrameRate}); err != nil {
			t.Fatal(err)
		}
		if v := probe(t, joined).Video; v.Frames != 2*before.Frames || v.HDR == nil || *v.HDR != *before.HDR {
			t.Errorf("joined %s: %+v", name, v)
		}
	}
}

func TestHDRWarnings(t *testing.T) {
	h := HDR{MaxContent: 1000}
	pq := VideoInfo{ColorTransfer: "smpte2084", HDR: &h}
	for _, c := range []struct{ path, codec, want string }{
		{"a.mp4", "hevc", ""}, {"a.mp4", "h264", ""}, {"a.mp4", "av1", "not kept by av1; set `codec` to hevc"}, {"a.webm", "vp9", "ends in .mp4 or .mkv"},
	} {
		cont, err := containerOf(c.path)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(pq.hdrWarnings("in.mp4", c.codec, cont), "\n")
		if !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q", c.codec, got)
		}
	}
	dolby := VideoInfo{ColorTransfer: "arib-std-b67", HDR: hdrOf([]sideData{{Type: "DOVI configuration record"}})}
	if got := dolby.hdrWarnings("in.mov", "hevc", containers[".mov"]); len(got) != 1 || !strings.Contains(got[0], "Dolby Vision") || !strings.Contains(got[0], "output is HLG") {
		t.Errorf("%q", got)
	}
	broken := HDR{Mastering: mastering{RedX: "1/0", MaxLum: "x"}}
	if got := broken.x265(); got != nil {
		t.Errorf("%q", got)
	}
}
