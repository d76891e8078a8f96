//go:build linux

package media

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// openVideo opens a video in its working format, until the end of the test, and
// returns a frame to read into.
func openVideo(t testing.TB, path string) (*VideoSource, *frame.Frame) {
	t.Helper()
	info := probe(t, path)
	f := frame.New(WorkingFormat(*info.Video))
	src, err := OpenVideo(t.Context(), tools(t), path, info, VideoOptions{Format: f.Format})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	return src, f
}

func TestVFR(t *testing.T) {
	slow(t)
	// Every third frame is missing in the second half.
	in := generate(t, args(testVideo("160x120", "30", "4"), "-vf select='lt(n,60)+mod(n,3)' -vsync vfr -c:v libx264 -bf 0 a.mp4")...)
	info := probe(t, in)
	v := info.Video
	if !v.VFR || v.FrameRate != (Rational{30, 1}) {
		t.Errorf("%+v", v)
	}
	frames := readAll(t, in, VideoOptions{Rate: Rational{30, 1}})
	if len(frames) < 119 || len(frames) > 120 {
		t.Errorf("%d frames", len(frames))
	}
	for i, f := range frames {
		if repeated := i > 0 && f == frames[i-1]; repeated && i < 60 {
			t.Errorf("frame %d is repeated", i)
		}
	}
	if n := len(readAll(t, in, VideoOptions{})); math.Abs(float64(int64(n)-v.Frames)) > 1 {
		t.Errorf("%d frames, %d promised", n, v.Frames)
	}
	// A seek finds the same frames.
	part := readAll(t, in, VideoOptions{Rate: Rational{30, 1}, Start: 2500 * time.Millisecond, End: 3 * time.Second})
	if len(part) != 15 {
		t.Fatalf("%d frames in the part", len(part))
	}
	for i := range part {
		if part[i] != frames[75+i] {
			t.Errorf("frame %d of the part differs", i)
		}
	}
}

func TestPartsAreTheSameFrames(t *testing.T) {
	slow(t)
	for _, c := range some(5, []string{
		"-c:v libx264 -g 50 -bf 3 a.mp4", "-c:v libx264 -g 50 -bf 3 -c:a aac a.mkv", "-c:v libvpx-vp9 -cpu-used 8 -g 30 a.webm",
		"-c:v libx264 -c:a aac a.ts", "-c:v libx264 -x264-params open-gop=1:keyint=15 a.mp4", "-c:v mpeg4 -g 20 a.avi", "a.gif",
	}) {
		t.Run(c, func(t *testing.T) {
			in := generate(t, args(testVideo("160x120", "25", "4"), "-f lavfi -i sine=d=4", c)...)
			all := readAll(t, in, VideoOptions{})
			// AVI has an empty slot of a frame's time, which counts.
			if n := probe(t, in).Video.Frames; int64(len(all)) != n || n < 100 || n > 101 {
				t.Errorf("%d frames, %d promised", len(all), n)
			}
			for _, first := range some(4, []int{1, 49, 50, 98, 24, 25, 26, 51, 77}) {
				last := min(first+5, 100)
				r := Rational{25, 1}
				part := readAll(t, in, VideoOptions{Start: r.Time(int64(first)), End: r.Time(int64(last))})
				if len(part) != last-first {
					t.Fatalf("%d..%d: %d frames", first, last, len(part))
				}
				for i := range part {
					if part[i] != all[first+i] {
						t.Errorf("%d..%d: frame %d differs", first, last, i)
					}
				}
			}
		})
	}
}

func TestCheckPart(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("64x48", "25", "2"), "-c:v libx264 a.mp4")...)
	late := generate(t, args(testVideo("64x48", "25", "2"), "-f lavfi -i sine=d=2 -c:v libx264 -c:a aac a.mkv")...)
	for _, path := range []string{in, late} {
		info := probe(t, path)
		o := VideoOptions{Rate: Rational{25, 1}, Format: WorkingFormat(*info.Video)}
		for start, ok := range map[time.Duration]bool{0: true, 1960 * time.Millisecond: true, 1970 * time.Millisecond: true,
			1990 * time.Millisecond: false, 2 * time.Second: false, 3 * time.Second: false} {
			o.Start = start
			err := CheckPart(info, o)
			if ok {
				if n := len(readAll(t, path, o)); err != nil || start > 0 && n != 1 {
					t.Errorf("%s from %v: %v, %d frames", path, start, err, n)
				}
			} else {
				wantFault(t, err, fault.Usage, "lies behind the end")
			}
		}
	}
}

// TestNoDuration reads a video of unknown length, as browsers record them.
func TestNoDuration(t *testing.T) {
	slow(t)
	path := filepath.Join(t.TempDir(), "live.webm")
	// In a pipe ffmpeg cannot go back to write the length.
	cmd := exec.Command("sh", append([]string{"-c", `out=$1; shift; "$@" | cat >"$out"`, "sh", path, tools(t).FFmpeg, "-v", "error"},
		args(testVideo("64x48", "25", "2"), "-c:v libvpx -deadline realtime -f webm pipe:1")...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	info := probe(t, path)
	if v := info.Video; v.Duration != 0 || v.Frames != 0 || v.FrameRate != (Rational{25, 1}) {
		t.Errorf("%+v", v)
	}
	src, f := openVideo(t, path)
	err := src.Read(f)
	for err == nil {
		err = src.Read(f)
	}
	if !errors.Is(err, io.EOF) || src.n != 50 || src.want != 0 || src.Short() {
		t.Errorf("%v: %d frames of %d, short %v", err, src.n, src.want, src.Short())
	}
}

func TestNames(t *testing.T) {
	slow(t)
	dir := t.TempDir()
	first := generate(t, args(testVideo("64x48", "25", "0.2"), "-f lavfi -i sine=d=0.2 -c:v libx264 -c:a aac a.mp4")...)
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // so that the leading dash is the first character
	for _, name := range []string{"-dash and space.mp4", "http:colon.mp4", "a%d new\nline.mp4", "Grüße 世界'\",;[c].mp4", strings.Repeat("ü", 120) + ".mp4"} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out := pass(t, name, "out "+name[:min(len(name), 100)]+".mp4", nil)
		if out.Video.Frames != 5 || len(out.Audio) != 1 {
			t.Errorf("%q: %+v", name, out)
		}
	}
}

func TestSourceKilled(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("640x480", "25", "3"), "-c:v libx264 -preset ultrafast a.mp4")...)
	src, f := openVideo(t, in)
	err := src.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range children(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for err == nil {
		err = src.Read(f)
	}
	wantFault(t, err, fault.Internal, "killed by signal 9")
	var x *child.ExitError
	if !errors.As(err, &x) || x.Signal != syscall.SIGKILL {
		t.Errorf("%#v", err)
	}
	if again := src.Read(f); again != err {
		t.Errorf("then %v", again)
	}
}

func TestSourceCancelAndClose(t *testing.T) {
	slow(t)
	// Longer than what the pipes hold, so that both processes still run.
	in := generate(t, args(testVideo("640x480", "25", "3"), "-f lavfi -i sine=d=30 -c:v libx264 -preset ultrafast -c:a aac a.mp4")...)
	info := probe(t, in)
	f := frame.New(WorkingFormat(*info.Video))
	for _, how := range []string{"cancel", "close"} {
		ctx, cancel := context.WithCancel(t.Context())
		src, err := OpenVideo(ctx, tools(t), in, info, VideoOptions{Format: f.Format})
		if err != nil {
			t.Fatal(err)
		}
		sound, err := OpenAudio(ctx, tools(t), in, info, 0, 16000)
		if err != nil {
			t.Fatal(err)
		}
		if len(children(t)) != 2 {
			t.Errorf("children: %v", children(t))
		}
		if err := src.Read(f); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if how == "cancel" {
				cancel()
				return
			}
			_ = src.Close()
			_ = sound.Close()
		}()
		for err == nil {
			err = src.Read(f)
		}
		wantFault(t, err, fault.Cancelled)
		for err = nil; err == nil; {
			_, err = sound.Read(make([]float32, 100))
		}
		wantFault(t, err, fault.Cancelled)
		clean(t, filepath.Dir(in))
		<-ended
		cancel()
		_ = src.Close()
		_ = sound.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Probe(ctx, tools(t), in); fault.KindOf(err) != fault.Cancelled {
		t.Error(err)
	}
}

func TestTruncated(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("160x120", "25", "4"), "-c:v libx264 -g 25 -movflags +faststart a.mp4")...)
	b, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, b[:len(b)*6/10], 0o600); err != nil {
		t.Fatal(err)
	}
	src, f := openVideo(t, in)
	for err == nil {
		err = src.Read(f)
	}
	if errors.Is(err, io.EOF) {
		if !src.Short() || src.want != 100 || src.n < 30 || len(src.ffmpeg.Stderr()) == 0 {
			t.Errorf("short %v, %d of %d frames, warnings %q", src.Short(), src.n, src.want, src.ffmpeg.Stderr())
		}
	} else {
		wantFault(t, err, fault.Input)
	}
}
