package media

import (
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestJoinKeepsTime checks that the rounding of times by containers does not add up
// over the parts.
func TestJoinKeepsTime(t *testing.T) {
	slow(t)
	const frames = 31 // 1.034367 s, which MP4 and Matroska round to 1.034 s
	parts := 12
	if long() {
		parts = 60
	}
	for _, ext := range []string{".mp4", ".mkv"} {
		dir := t.TempDir()
		one := filepath.Join(dir, "one"+ext)
		if text, err := exec.Command(tools(t).FFmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30000/1001", "-frames:v", strconv.Itoa(frames),
			"-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2", one).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		var list []string
		for range parts {
			list = append(list, one)
		}
		info, err := Probe(t.Context(), tools(t), one)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "out"+ext)
		format := WorkingFormat(*info.Video)
		if err := Join(t.Context(), tools(t), list, out, SinkOptions{Codec: "libx264", Format: format, Rate: info.Video.FrameRate, Tags: WorkingTags(*info.Video, format)}); err != nil {
			t.Fatal(err)
		}
		text, err := exec.Command(tools(t).FFprobe, "-v", "error", "-show_entries", "frame=pts_time", "-of", "csv=p=0", out).Output()
		if err != nil {
			t.Fatal(err)
		}
		times := strings.Fields(string(text))
		if len(times) != parts*frames {
			t.Errorf("%s: %d frames", ext, len(times))
		}
		worst := 0.0
		for i, s := range times {
			at, err := strconv.ParseFloat(strings.TrimSuffix(s, ","), 64)
			if err != nil {
				t.Fatal(err)
			}
			worst = max(worst, math.Abs(at-float64(i)*1001/30000))
		}
		if worst > 0.002 {
			t.Errorf("%s: frames are up to %s beside their time", ext, fmt.Sprintf("%.4f s", worst))
		}
	}
}
