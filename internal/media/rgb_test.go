package media

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// TestExactRGB checks that ffv1 returns any 8-bit RGB unchanged.
func TestExactRGB(t *testing.T) {
	slow(t)
	const width, height, frames = 322, 242, 12
	dir := t.TempDir()
	raw := make([]byte, width*height*3*frames)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(raw)
	for i := range width * height { // a smooth picture, too
		raw[3*i], raw[3*i+1], raw[3*i+2] = byte(i), byte(i/width), byte(i/3)
	}
	in, out := filepath.Join(dir, "in.mkv"), filepath.Join(dir, "out.mkv")
	frames24 := filepath.Join(dir, "in.raw")
	if err := os.WriteFile(frames24, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(tools(t).FFmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "322x242", "-r", "25", "-i", frames24,
		"-c:v", "ffv1", "-pix_fmt", "gbrp", in).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	info, err := Probe(t.Context(), tools(t), in)
	if err != nil {
		t.Fatal(err)
	}
	if w := WorkingFormat(*info.Video); w.Depth != 8 || w.ShiftX != 1 {
		t.Errorf("players get %+v", w)
	}
	format := EncodingFor(*info.Video, out, "ffv1").Format
	src, err := OpenVideo(t.Context(), tools(t), in, info, VideoOptions{Rate: Rational{25, 1}, Format: format})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	sink, err := OpenSink(t.Context(), tools(t), out, SinkOptions{Codec: "ffv1", Format: format, Rate: Rational{25, 1}, Tags: WorkingTags(*info.Video, format)})
	if err != nil {
		t.Fatal(err)
	}
	f := frame.New(format)
	for err = src.Read(f); err == nil; err = src.Read(f) {
		if err := sink.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	if err := sink.Commit(); err != nil {
		t.Fatal(err)
	}
	if info, err = Probe(t.Context(), tools(t), out); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ first, count, want int64 }{{0, 0, 12}, {1, 0, 11}, {1, 1, 1}, {11, 0, 1}, {12, 0, 0}} {
		rgb, err := OpenRGB(t.Context(), tools(t), out, info, c.first, c.count)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rgb)
		if err != nil {
			t.Error(err)
		}
		_ = rgb.Close()
		one := int64(width * height * 3)
		if !bytes.Equal(got, raw[c.first*one:(c.first+c.want)*one]) {
			differ, worst := 0, 0
			for i, b := range raw[c.first*one : (c.first+c.want)*one] {
				if i < len(got) && b != got[i] {
					differ++
					worst = max(worst, int(b)-int(got[i]), int(got[i])-int(b))
				}
			}
			t.Errorf("frames from %d: %d of %d bytes, %d differ, by up to %d", c.first, len(got), c.want*one, differ, worst)
		}
	}
}
