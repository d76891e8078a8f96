package media

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

var findTools = sync.OnceValues(func() (Tools, error) { return FindTools(context.Background()) })

// tools finds ffmpeg or skips the test.
func tools(t testing.TB) Tools {
	t.Helper()
	tl, err := findTools()
	if err != nil && (os.Getenv("CI") != "" || os.Getenv("LIPSTREAM_REQUIRE_RUNTIMES") != "") {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return tl
}

// ff runs ffmpeg to make an input.
func ff(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tools(t).FFmpeg, append([]string{"-v", "error", "-nostdin", "-y"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg %q: %v\n%s", args, err, out)
	}
}

// generate makes a small input with ffmpeg and returns its path. The last argument
// is its name.
func generate(t testing.TB, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), args[len(args)-1])
	ff(t, append(args[:len(args)-1:len(args)-1], "file:"+path)...)
	return path
}

// probed holds the results of probe, by path, size and time of the last change.
var probed sync.Map

// probe probes a file, once.
func probe(t testing.TB, path string) *Info {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprint(abs, st.Size(), st.ModTime())
	if info, ok := probed.Load(key); ok {
		return info.(*Info)
	}
	info, err := Probe(t.Context(), tools(t), path)
	if err != nil {
		t.Fatal(err)
	}
	probed.Store(key, info)
	return info
}

// readAll returns a hash of each frame.
func readAll(t testing.TB, path string, o VideoOptions) [][32]byte {
	t.Helper()
	info := probe(t, path)
	if o.Format == (frame.Format{}) {
		o.Format = WorkingFormat(*info.Video)
	}
	src, err := OpenVideo(t.Context(), tools(t), path, info, o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var out [][32]byte
	f := frame.New(o.Format)
	for {
		err := src.Read(f)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sha256.Sum256(f.Data))
	}
}

// pass sends a video through source and sink untouched.
func pass(t testing.TB, in, out string, change func(*SinkOptions)) *Info {
	t.Helper()
	tl, info := tools(t), probe(t, in)
	f := WorkingFormat(*info.Video)
	src, err := OpenVideo(t.Context(), tl, in, info, VideoOptions{Format: f})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	o := SinkOptions{Format: f, Rate: info.Video.FrameRate, SampleAspect: info.Video.SampleAspect, Tags: WorkingTags(*info.Video, f), Inputs: []string{in}}
	if len(info.Audio) > 0 {
		o.Audio, o.AudioTrack = info, info.DefaultAudio()
	}
	if change != nil {
		change(&o)
	}
	sink, err := OpenSink(t.Context(), tl, out, o)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	fr := frame.New(f)
	for {
		err := src.Read(fr)
		if errors.Is(err, io.EOF) || info.Video.IsPicture && sink.n == 10 {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Write(fr); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Commit(); err != nil {
		t.Fatal(err)
	}
	clean(t, filepath.Dir(out))
	return probe(t, out)
}

// some returns the cases that a test runs: the first n, one with -short, all with
// LIPSTREAM_LONG=1.
func some[T any](n int, cases []T) []T {
	switch {
	case long():
		return cases
	case testing.Short():
		n = 1
	}
	return cases[:n]
}

func long() bool { return os.Getenv("LIPSTREAM_LONG") != "" }

// slow skips a test with -short: it starts too many processes.
func slow(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts many processes")
	}
}

// until waits for a condition, for as long as the test may run.
func until(t testing.TB, done func() bool) {
	t.Helper()
	for !done() {
		if t.Context().Err() != nil {
			t.Fatal("the test ended while it was waiting")
		}
		time.Sleep(time.Millisecond)
	}
}

// children returns the process IDs of the children of this process.
func children(t testing.TB) []int {
	t.Helper()
	self := process.Process{Pid: int32(os.Getpid())}
	list, err := self.Children()
	if err != nil && !errors.Is(err, process.ErrorNoChildren) {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range list {
		pids = append(pids, int(p.Pid))
	}
	return pids
}

// clean checks that no temporary file and no child is left.
func clean(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), ".lipstream-") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	until(t, func() bool { return len(children(t)) == 0 })
}

// wantFault checks the kind of an error, and that its message or its hint contains
// each text.
func wantFault(t testing.TB, err error, kind fault.Kind, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) != kind {
		t.Errorf("kind %d, want %d: %v", fault.KindOf(err), kind, err)
	}
	all := err.Error() + "\n" + fault.HintOf(err)
	for _, s := range texts {
		if !strings.Contains(all, s) {
			t.Errorf("error %q does not say %q", all, s)
		}
	}
}

// testVideo returns the input of a video whose frames all differ.
func testVideo(size, rate, seconds string) []string {
	return []string{"-f", "lavfi", "-i", "testsrc2=s=" + size + ":r=" + rate + ":d=" + seconds}
}

func args(parts ...any) []string {
	var out []string
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, strings.Fields(p)...)
		case []string:
			out = append(out, p...)
		}
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	for _, c := range some(7, []struct {
		name string
		args []string
		want func(v *VideoInfo) bool
	}{
		{"ntsc with sound", args(testVideo("320x240", "30000/1001", "1"), "-f lavfi -i sine=d=1 -c:v libx264 -c:a aac a.mp4"),
			func(v *VideoInfo) bool { return v.FrameRate == Rational{30000, 1001} && v.Frames == 30 }},
		{"odd size", args(testVideo("322x242", "25", "0.4"), "-vf scale=321:241 -c:v ffv1 -pix_fmt yuv420p a.mkv"), func(v *VideoInfo) bool { return v.Width == 321 && v.Height == 241 }},
		{"10 bit", args(testVideo("160x120", "25", "0.4"), "-vf setparams=color_primaries=bt2020:colorspace=bt2020nc:color_trc=smpte2084 -c:v libx265 -x265-params log-level=error -pix_fmt yuv420p10le -color_primaries bt2020 -colorspace bt2020nc -color_trc smpte2084 a.mp4"),
			func(v *VideoInfo) bool {
				return v.Depth == 10 && v.ColorTransfer == "smpte2084" && v.ColorSpace == "bt2020nc"
			}},
		{"full range", args(testVideo("320x240", "25", "0.4"), "-vf scale=out_range=pc -c:v libx264 -pix_fmt yuvj420p -color_range pc a.mp4"),
			func(v *VideoInfo) bool { return v.ColorRange == "pc" }},
		{"anamorphic 422", args(testVideo("320x240", "25", "0.4"), "-vf setsar=16/11 -c:v libx264 -pix_fmt yuv422p a.mp4"),
			func(v *VideoInfo) bool { return v.SampleAspect == Rational{16, 11} && v.PixFmt == "yuv422p" }},
		{"mpegts", args(testVideo("320x240", "25", "1"), "-f lavfi -i sine=d=1 -c:v libx264 -c:a aac a.ts"), nil},
		{"matroska with sound", args(testVideo("320x240", "24000/1001", "1"), "-f lavfi -i sine=d=1 -c:v libx264 -c:a aac a.mkv"),
			func(v *VideoInfo) bool { return v.FrameRate == Rational{24000, 1001} && v.Frames == 24 }},
		{"full range vp9", args(testVideo("320x240", "25", "0.4"), "-vf scale=out_range=pc -c:v libvpx-vp9 -cpu-used 8 -color_range pc a.webm"),
			func(v *VideoInfo) bool { return v.ColorRange == "pc" }},
		{"plain", args(testVideo("320x240", "25", "1"), "-c:v libx264 -g 12 a.mp4"), func(v *VideoInfo) bool { return v.Frames == 25 }},
		{"odd 444", args(testVideo("322x242", "25", "0.4"), "-vf scale=321:241,setsar=1,format=yuv444p -c:v libx264 -pix_fmt yuv444p a.mp4"), nil},
		{"422", args(testVideo("320x240", "25", "0.4"), "-c:v libx264 -pix_fmt yuv422p a.mp4"), func(v *VideoInfo) bool { return v.PixFmt == "yuv422p" }},
		{"mjpeg avi", args(testVideo("320x240", "25", "0.4"), "-c:v mjpeg a.avi"), nil},
	}) {
		t.Run(c.name, func(t *testing.T) {
			in := generate(t, c.args...)
			before := probe(t, in)
			if c.want != nil && !c.want(before.Video) {
				t.Errorf("source: %+v", before.Video)
			}
			out := filepath.Join(t.TempDir(), "out.mp4")
			after := pass(t, in, out, func(o *SinkOptions) { o.Lossless, o.Preset = true, "ultrafast" })
			b, a := before.Video, after.Video
			if a.FrameRate != b.FrameRate || a.Width != b.Width || a.Height != b.Height || a.Frames != b.Frames || a.VFR {
				t.Errorf("output %+v\nsource %+v", a, b)
			}
			if b.ColorRange != "" && a.ColorRange != b.ColorRange || a.ColorSpace == "" || b.ColorTransfer != a.ColorTransfer {
				t.Errorf("output colours %q %q %q %q", a.ColorRange, a.ColorSpace, a.ColorPrimaries, a.ColorTransfer)
			}
			if d := (a.Duration - b.Duration).Abs(); d > time.Millisecond && d > b.FrameRate.Time(1) {
				t.Errorf("duration %v, source %v", a.Duration, b.Duration)
			}
			if b.SampleAspect.Valid() && b.SampleAspect != a.SampleAspect {
				t.Errorf("sample aspect %v, source %v", a.SampleAspect, b.SampleAspect)
			}
			f := WorkingFormat(*b)
			x, y := readAll(t, in, VideoOptions{Format: f}), readAll(t, out, VideoOptions{Format: f})
			if int64(len(x)) != b.Frames || len(x) != len(y) {
				t.Fatalf("%d frames in, %d out, %d promised", len(x), len(y), b.Frames)
			}
			for i := range x {
				if x[i] != y[i] {
					t.Fatalf("frame %d differs", i)
				}
			}
		})
	}
}

// samples returns all samples of an audio track.
func samples(t *testing.T, path string, track, rate int) []float32 {
	t.Helper()
	src, err := OpenAudio(t.Context(), tools(t), path, probe(t, path), track, rate)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var all []float32
	for buf := make([]float32, 1000); ; {
		n, err := src.Read(buf)
		all = append(all, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func loudness(s []float32) float64 {
	sum := 0.0
	for _, v := range s {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(max(1, len(s))))
}
