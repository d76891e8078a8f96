package mask

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/media"
)

var rate = media.Rational{Num: 25, Den: 1}

var full = levels(true)

// file makes a file with ffmpeg, and probes it.
func file(t *testing.T, name string, args ...string) (media.Tools, *media.Info) {
	t.Helper()
	tools, err := media.FindTools(t.Context())
	if err != nil && os.Getenv("LIPSTREAM_REQUIRE_RUNTIMES") == "" {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), tools.FFmpeg, append(append([]string{"-v", "error", "-nostdin"}, args...), "file:"+path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg %q: %v\n%s", args, err, out)
	}
	info, err := media.Probe(t.Context(), tools, path)
	if err != nil {
		t.Fatal(err)
	}
	return tools, info
}

// counting makes a video of n frames of 64×48 pixels. All pixels of frame i have the luma
// 10·i of 255.
func counting(t *testing.T, n int, name string, args ...string) (media.Tools, *media.Info) {
	return file(t, name, append([]string{"-f", "lavfi", "-i", fmt.Sprintf("color=black:s=64x48:r=25,format=gray,geq=lum=10*N,trim=end_frame=%d", n)}, args...)...)
}

// number returns which frame of counting a mask is; -1 if it is none.
func number(t *testing.T, values []byte) int {
	t.Helper()
	if len(values) != 64*48 {
		t.Fatalf("%d values", len(values))
	}
	for i := range 26 {
		if values[700] == full[10*i] {
			return i
		}
	}
	return -1
}

func open(t *testing.T, tools media.Tools, info *media.Info, first int64) *Mask {
	m := Open(t.Context(), tools, info, Options{Width: 64, Height: 48, Rate: rate, First: first})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// TestAt asks for frames as a video that is read forward, in a part, in a loop and back and
// forth does.
func TestAt(t *testing.T) {
	tools, info := counting(t, 20, "mask.mkv", "-c:v", "ffv1", "-pix_fmt", "gray", "-g", "5")
	up, down := []int64{}, []int64{}
	for i := range int64(25) { // longer than the mask
		up, down = append(up, i), append(down, 24-i)
	}
	for name, c := range map[string]struct {
		first int64
		asked []int64
	}{
		"forward":          {0, up},
		"from the third":   {3, up},
		"a part":           {0, []int64{7, 8, 9, 12, 13}},
		"beyond its end":   {0, []int64{400, 401}},
		"a loop":           {2, slices.Concat(up[:6], up[:6], up[:2])},
		"back and forth":   {0, slices.Concat(up, down, up)},
		"some, from frame": {4, slices.Concat(up[:10], down[15:], up[:10])},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, tools, info, c.first)
			for i, n := range c.asked {
				values, err := m.At(n)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := number(t, values), int(min(n+c.first, 19)); got != want {
					t.Fatalf("request %d, for frame %d: frame %d, want %d", i, n, got, want)
				}
			}
		})
	}
}

// TestBackwardsInPieces bounds what is held.
func TestBackwardsInPieces(t *testing.T) {
	tools, info := counting(t, 20, "mask.mkv", "-c:v", "ffv1", "-pix_fmt", "gray")
	m := Open(t.Context(), tools, info, Options{Width: 64, Height: 48, Rate: rate})
	defer func() { _ = m.Close() }()
	m.piece = 6
	for i := range int64(20) {
		if _, err := m.At(i); err != nil || len(m.held) != 1 {
			t.Fatalf("forward, %d frames are held, error %v", len(m.held), err)
		}
	}
	for i := range int64(20) {
		values, err := m.At(19 - i)
		if err != nil || len(m.held) > 6 || number(t, values) != int(19-i) {
			t.Fatalf("backwards, frame %d: %d frames are held, error %v", 19-i, len(m.held), err)
		}
	}
	if total := len(m.held) + len(m.spare); total > 7 {
		t.Errorf("%d frames were allocated", total)
	}
}

// TestOtherRate reads a mask at another rate than its own, and one in a lossy codec with
// limited range.
func TestOtherRate(t *testing.T) {
	tools, info := file(t, "mask.mp4", "-f", "lavfi", "-i", "color=black:s=64x48:r=50,format=gray,geq=lum='255*gte(N,20)',trim=end_frame=40", "-pix_fmt", "yuv420p")
	m := open(t, tools, info, 0)
	for i := range int64(20) {
		values, err := m.At(i)
		if err != nil {
			t.Fatal(err)
		}
		want := byte(0)
		if i >= 10 {
			want = 255
		}
		if k := slices.IndexFunc(values, func(v byte) bool { return v != want }); k >= 0 {
			t.Fatalf("frame %d, pixel %d: %d, want %d", i, k, values[k], want)
		}
	}
}

// TestPicture reads pictures: they are scaled to the frames, colours count by their luma, and
// transparent pixels as black.
func TestPicture(t *testing.T) {
	for name, c := range map[string]struct {
		source string
		want   [2]byte // of the left and the right half
	}{
		"gray":        {"color=black:s=32x24,format=gray,geq=lum='255*lt(X,16)'", [2]byte{255, 0}},
		"middle":      {"color=black:s=640x480,format=gray,geq=lum='if(lt(X,320),128,64)'", [2]byte{full[128], full[64]}},
		"16 bits":     {"color=black:s=64x48,format=gray16le,geq=lum='65535*lt(X,32)'", [2]byte{255, 0}},
		"colour":      {"color=red:s=64x48,format=rgb24", [2]byte{full[54], full[54]}},
		"alpha":       {"color=white:s=64x48,format=rgba,geq=r=255:g=255:b=255:a='255*lt(X,32)'", [2]byte{255, 0}},
		"white, half": {"color=white:s=64x48,format=rgba,geq=r=255:g=255:b=255:a=128", [2]byte{full[128], full[128]}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tools, info := file(t, "mask.png", "-f", "lavfi", "-i", c.source, "-frames:v", "1")
			m := open(t, tools, info, 7)
			for range 3 {
				values, err := m.At(1000)
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range []int{8, 56} {
					if got := values[20*64+x]; got < c.want[i]-min(c.want[i], 1) || got > c.want[i]+min(255-c.want[i], 1) {
						t.Errorf("pixel %d of a row is %d, want %d", x, got, c.want[i])
					}
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	info := func(w, h int) *media.Info {
		return &media.Info{Path: "m.png", Video: &media.VideoInfo{Width: w, Height: h}}
	}
	for _, c := range []struct {
		info *media.Info
		want string
	}{
		{info(1920, 1080), ""}, {info(960, 540), ""}, {info(16, 9), ""}, {info(1366, 768), ""},
		{info(1080, 1920), "its shape of 1080x1920 differs from that of the video, 1920x1080"},
		{info(512, 512), "differs"}, {&media.Info{Path: "m.wav"}, "no video track"},
	} {
		err := Check(c.info, 1920, 1080)
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || c.want == "" || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != fault.Input || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v", c.info.Video, err)
		}
	}
}

// TestCancelled ends a read when the job is cancelled.
func TestCancelled(t *testing.T) {
	tools, info := counting(t, 20, "mask.mkv", "-c:v", "ffv1", "-pix_fmt", "gray")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := Open(ctx, tools, info, Options{Width: 64, Height: 48, Rate: rate})
	if _, err := m.At(0); err == nil {
		t.Error("no error")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
