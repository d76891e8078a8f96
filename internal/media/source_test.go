//go:build linux

package media

import (
	"bytes"
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
	"syscall"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

// lumaAt gives the mean luma of a small square, as a share of the picture.
func lumaAt(f *frame.Frame, x, y float64) int {
	cx, cy, sum := int(x*float64(f.Width)), int(y*float64(f.Height)), 0
	for dy := -2; dy <= 2; dy++ {
		for dx := -2; dx <= 2; dx++ {
			sum += int(f.Planes[0][(cy+dy)*f.Width+cx+dx])
		}
	}
	return sum / 25
}

func firstFrame(t *testing.T, path string) (*Info, *frame.Frame) {
	t.Helper()
	info := probe(t, path)
	f := frame.New(WorkingFormat(*info.Video))
	src, err := OpenVideo(t.Context(), tools(t), path, info, VideoOptions{Format: f.Format})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Read(f); err != nil {
		t.Fatal(err)
	}
	return info, f
}

// corner is a black picture whose upper left quarter is white.
const corner = "color=black:s=64x48:r=25:d=0.4,drawbox=w=32:h=24:c=white:t=fill"

func TestRotation(t *testing.T) {
	plain := make0(t, args("-f lavfi -i", corner, "-c:v libx264 -pix_fmt yuv420p a.mp4")...)
	for _, c := range []struct {
		tag  string
		turn int
		x, y float64 // where the white corner is afterwards
	}{{"90", 0, 0, 0}, {"180", 0, 0, 0}, {"270", 0, 0, 0}} {
		path := filepath.Join(t.TempDir(), "r.mp4")
		if major, _, ok := versionNumber(tools(t).Version); ok && major < 6 {
			ff(t, "-i", plain, "-c", "copy", "-metadata:s:v", "rotate="+c.tag, path)
		} else {
			ff(t, "-display_rotation", c.tag, "-i", plain, "-c", "copy", path)
		}
		info, f := firstFrame(t, path)
		v := info.Video
		if quarter := v.Rotation%180 != 0; v.Rotation == 0 || quarter != (c.tag != "180") || quarter != (v.Width == 48) || f.Width != v.Width {
			t.Errorf("rotate=%s: %+v", c.tag, v)
		}
		// Clockwise: the upper left corner goes to the upper right and so on.
		at := map[int][2]float64{90: {.75, .25}, 180: {.75, .75}, 270: {.25, .75}}[v.Rotation]
		for _, p := range [][2]float64{{.25, .25}, {.75, .25}, {.25, .75}, {.75, .75}} {
			if white := lumaAt(f, p[0], p[1]) > 128; white != (p == at) {
				t.Errorf("rotate=%s, rotation %d: at %v white is %v", c.tag, v.Rotation, p, white)
			}
		}
		// What goes out is upright and has no rotation any more.
		out := pass(t, path, filepath.Join(t.TempDir(), "o.mp4"), nil)
		if out.Video.Rotation != 0 || out.Video.Width != v.Width {
			t.Errorf("output %+v", out.Video)
		}
	}
}

// withExif puts an EXIF block with an orientation into a JPEG.
func withExif(t *testing.T, path string, orientation byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tiff := []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(rune(orientation)) + "\x00\x00\x00\x00\x00\x00")
	seg := append([]byte{0xff, 0xe1, 0, byte(len(tiff) + 2)}, tiff...)
	if err := os.WriteFile(path, bytes.Join([][]byte{b[:2], seg, b[2:]}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExifOrientation(t *testing.T) {
	want := map[int][2]float64{1: {.25, .25}, 2: {.75, .25}, 3: {.75, .75}, 4: {.25, .75}, 5: {.25, .25}, 6: {.75, .25}, 7: {.75, .75}, 8: {.25, .75}}
	for o := 1; o <= 8; o++ {
		path := make0(t, args("-f lavfi -i", corner, "-frames:v 1 -update 1 a.jpg")...)
		withExif(t, path, byte(o))
		info, f := firstFrame(t, path)
		if info.Video.Orientation != o || (o >= 5) != (info.Video.Width == 48) {
			t.Errorf("orientation %d: %+v", o, info.Video)
		}
		for _, p := range [][2]float64{{.25, .25}, {.75, .25}, {.25, .75}, {.75, .75}} {
			if white := lumaAt(f, p[0], p[1]) > 128; white != (p == want[o]) {
				t.Errorf("orientation %d: at %v white is %v", o, p, white)
			}
		}
	}
}

func TestPictures(t *testing.T) {
	for _, c := range []struct{ name, args string }{
		{"png", "-pix_fmt rgb24 a%d.png"}, {"png gray", "-pix_fmt gray a.png"}, {"png 16 bit", "-pix_fmt rgb48be a.png"},
		{"png palette", "-pix_fmt pal8 a.png"},
		{"jpeg", "-q:v 1 -pix_fmt yuvj444p a.jpg"}, {"jpeg under another name", "-q:v 1 -f mjpeg a.mp4"},
		{"webp", "-c:v libwebp -quality 100 a.webp"}, {"webp lossless", "-c:v libwebp -lossless 1 a.webp"},
		{"bmp", "a.bmp"}, {"tiff", "-pix_fmt rgb24 a.tiff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := make0(t, args("-f lavfi -i color=0xC83214:s=320x240 -frames:v 1 -update 1", c.args)...)
			info, f := firstFrame(t, in)
			if !info.Video.IsPicture || f.PixFmt() != "yuv420p" || f.FullRange || f.Matrix != frame.BT709 {
				t.Fatalf("%+v %+v", info.Video, f.Format)
			}
			want := [3]int{84, 100, 195} // 200, 50, 20 in BT.709, limited range
			if c.name == "png gray" {
				want = [3]int{0, 128, 128}
			}
			if c.name == "png palette" {
				want = [3]int{78, 94, 195} // the nearest of its 256 colours
			}
			for i, w := range want {
				if got := int(f.Planes[i][len(f.Planes[i])/2]); w > 0 && (got < w-3 || got > w+3) {
					t.Errorf("plane %d is %d, want %d", i, got, w)
				}
			}
			out := pass(t, in, filepath.Join(t.TempDir(), "o.mp4"), func(o *SinkOptions) { o.Rate = Rational{25, 1} })
			if out.Video.Frames != 10 || out.Video.ColorSpace != "bt709" || out.Video.ColorRange != "tv" {
				t.Errorf("output %+v", out.Video)
			}
		})
	}
}

func TestAlphaOverBlack(t *testing.T) {
	half := "color=white:s=64x48:r=25:d=0.2,format=rgba,geq=r=255:g=255:b=255:a='if(lt(X,32),255,if(lt(Y,24),0,128))'"
	for _, c := range []string{
		"-frames:v 1 -update 1 a.png", "-c:v libvpx-vp9 -pix_fmt yuva420p -lossless 1 a.webm", "-c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le a.mov",
		"-c:v qtrle a.mov", "-c:v ffv1 -pix_fmt yuva420p a.mkv",
	} {
		t.Run(c, func(t *testing.T) {
			in := make0(t, args([]string{"-f", "lavfi", "-i", half}, c)...)
			info, f := firstFrame(t, in)
			if !info.Video.HasAlpha {
				t.Errorf("%+v", info.Video)
			}
			luma := func(x, y int) int {
				if i := y*f.Width + x; f.Depth > 8 {
					return (int(f.Planes[0][2*i]) | int(f.Planes[0][2*i+1])<<8) >> 2
				}
				return int(f.Planes[0][y*f.Width+x])
			}
			for _, p := range [][3]int{{10, 10, 235}, {50, 8, 16}, {50, 40, 126}} {
				if got := luma(p[0], p[1]); got < p[2]-4 || got > p[2]+4 {
					t.Errorf("luma at %d,%d is %d, want %d", p[0], p[1], got, p[2])
				}
			}
		})
	}
}

func TestVFR(t *testing.T) {
	// Every third frame is missing in the second half.
	in := make0(t, args(testVideo("160x120", "30", "4"), "-vf select='lt(n,60)+mod(n,3)' -vsync vfr -c:v libx264 a.mp4")...)
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
	// The same frames by a seek.
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
	for _, c := range []string{
		"-c:v libx264 -g 50 -bf 3 a.mp4", "-c:v libx264 -g 50 -bf 3 -c:a aac a.mkv", "-c:v libvpx-vp9 -cpu-used 8 -g 30 a.webm",
		"-c:v mpeg4 -g 20 a.avi", "-c:v libx264 -c:a aac a.ts", "a.gif", "-c:v libx264 -x264-params open-gop=1:keyint=15 a.mp4",
	} {
		t.Run(c, func(t *testing.T) {
			in := make0(t, args(testVideo("160x120", "25", "4"), "-f lavfi -i sine=d=4", c)...)
			all := readAll(t, in, VideoOptions{})
			// AVI has an empty slot of a frame's time, which counts.
			if n := probe(t, in).Video.Frames; int64(len(all)) != n || n < 100 || n > 101 {
				t.Errorf("%d frames, %d promised", len(all), n)
			}
			for _, first := range []int{1, 24, 25, 26, 49, 50, 51, 77, 98} {
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
	in := make0(t, args(testVideo("64x48", "25", "2"), "-c:v libx264 a.mp4")...)
	late := make0(t, args(testVideo("64x48", "25", "2"), "-f lavfi -i sine=d=2 -c:v libx264 -c:a aac a.mkv")...)
	for _, path := range []string{in, late} {
		info := probe(t, path)
		o := VideoOptions{Rate: Rational{25, 1}, Format: WorkingFormat(*info.Video)}
		for start, ok := range map[time.Duration]bool{0: true, 1960 * time.Millisecond: true, 1970 * time.Millisecond: true,
			1990 * time.Millisecond: false, 2 * time.Second: false, 3 * time.Second: false} {
			o.Start = start
			err := CheckPart(path, info, o)
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

// A browser's recording does not say how long it is.
func TestNoDuration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.webm")
	// A pipe cannot be gone back in to write the length.
	cmd := exec.Command("sh", append([]string{"-c", `out=$1; shift; "$@" | cat >"$out"`, "sh", path, tools(t).FFmpeg, "-v", "error"},
		args(testVideo("64x48", "25", "2"), "-c:v libvpx -deadline realtime -f webm pipe:1")...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	info := probe(t, path)
	if v := info.Video; v.Duration != 0 || v.Frames != 0 || v.FrameRate != (Rational{25, 1}) {
		t.Errorf("%+v", v)
	}
	src, err := OpenVideo(t.Context(), tools(t), path, info, VideoOptions{Format: WorkingFormat(*info.Video)})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	f := frame.New(src.o.Format)
	for err == nil {
		err = src.Read(f)
	}
	if !errors.Is(err, io.EOF) || src.Frames() != 50 || src.Expected() != 0 || src.Short() {
		t.Errorf("%v: %d frames of %d, short %v", err, src.Frames(), src.Expected(), src.Short())
	}
}

func TestSequence(t *testing.T) {
	in := make0(t, args(testVideo("160x120", "30000/1001", "1.5"), "-c:v libx264 -g 20 a.mp4")...)
	all := readAll(t, in, VideoOptions{})
	v := len(all)
	if v != 45 {
		t.Fatalf("%d frames", v)
	}
	info := probe(t, in)
	format := WorkingFormat(*info.Video)
	index := map[Mode]func(i int) int{
		Pad:  func(i int) int { return min(i, v-1) },
		Loop: func(i int) int { return i % v },
		PingPong: func(i int) int {
			if i %= 2 * v; i >= v {
				return 2*v - 1 - i
			}
			return i
		},
	}
	for mode, at := range index {
		for _, buffer := range []int{0, 7 * format.Bytes()} {
			t.Run(fmt.Sprint(mode, buffer), func(t *testing.T) {
				s, err := NewSequence(t.Context(), tools(t), in, info, SequenceOptions{VideoOptions{Format: format}, buffer}, mode)
				if err != nil {
					t.Fatal(err)
				}
				f := frame.New(format)
				for i := range 4*v + 3 {
					if err := s.Read(f); err != nil {
						t.Fatal(i, err)
					}
					if sha256.Sum256(f.Data) != all[at(i)] {
						t.Fatalf("frame %d is not frame %d", i, at(i))
					}
				}
				if s.Length() != int64(v) || s.Short() {
					t.Errorf("length %d, short %v", s.Length(), s.Short())
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				clean(t, filepath.Dir(in))
				if err := s.Read(f); err == nil && mode != Pad && buffer != 0 {
					t.Error("reads on after Close")
				}
			})
		}
	}
	t.Run("shortest", func(t *testing.T) {
		s, err := NewSequence(t.Context(), tools(t), in, info, SequenceOptions{VideoOptions: VideoOptions{Format: format}}, Shortest)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f := frame.New(format)
		for n := 0; ; n++ {
			if err := s.Read(f); errors.Is(err, io.EOF) {
				if n != v || s.Length() != int64(v) {
					t.Errorf("%d frames, length %d", n, s.Length())
				}
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Read(f); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// counted are tools whose ffmpeg notes each start; count tells how many.
func counted(t *testing.T) (tl Tools, count func() int) {
	t.Helper()
	tl = tools(t)
	dir := t.TempDir()
	log, wrapper := filepath.Join(dir, "log"), filepath.Join(dir, "ffmpeg")
	if err := os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\necho >>'%s'\nexec '%s' \"$@\"\n", log, tl.FFmpeg), 0o700); err != nil {
		t.Fatal(err)
	}
	tl.FFmpeg = wrapper
	return tl, func() int {
		b, _ := os.ReadFile(log)
		return len(b)
	}
}

// The end of a video costs no process in Pad, the further passes of a short
// clip cost one.
func TestSequenceStarts(t *testing.T) {
	in := make0(t, args(testVideo("160x120", "25", "1"), "-c:v libx264 a.mp4")...)
	info := probe(t, in)
	format := WorkingFormat(*info.Video)
	for mode, want := range map[Mode]int{Shortest: 1, Pad: 1, Loop: 2, PingPong: 2} {
		tl, count := counted(t)
		s, err := NewSequence(t.Context(), tl, in, info, SequenceOptions{VideoOptions: VideoOptions{Format: format}}, mode)
		if err != nil {
			t.Fatal(err)
		}
		f := frame.New(format)
		for i := range 110 {
			if err := s.Read(f); err != nil {
				if mode == Shortest && i >= 25 && errors.Is(err, io.EOF) {
					break
				}
				t.Fatal(mode, i, err)
			}
			if i == 25 && mode == Pad {
				// What is gone is not missed.
				s.path = filepath.Join(t.TempDir(), "gone.mp4")
			}
		}
		if got := count(); got != want {
			t.Errorf("%v: ffmpeg was started %d times, want %d", mode, got, want)
		}
		if err := s.Read(frame.New(small)); err == nil {
			t.Errorf("%v: takes a frame of another format", mode)
		}
		_ = s.Close()
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	first := make0(t, args(testVideo("64x48", "25", "0.2"), "-f lavfi -i sine=d=0.2 -c:v libx264 -c:a aac a.mp4")...)
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // so that the leading dash is the first character
	for _, name := range []string{"with space.mp4", "a%d.mp4", "-dash.mp4", "http:colon.mp4", "Grüße 世界.mp4", "new\nline.mp4", "quote'\".mp4", "a,b;[c].mp4", strings.Repeat("ü", 120) + ".mp4"} {
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
	in := make0(t, args(testVideo("640x480", "25", "20"), "-c:v libx264 -preset ultrafast a.mp4")...)
	info := probe(t, in)
	f := frame.New(WorkingFormat(*info.Video))
	src, err := OpenVideo(t.Context(), tools(t), in, info, VideoOptions{Format: f.Format})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := src.Read(f); err != nil {
		t.Fatal(err)
	}
	for _, pid := range Pids() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for err == nil {
		err = src.Read(f)
	}
	wantFault(t, err, fault.Internal, "killed by signal 9")
	var x *ExitError
	if !errors.As(err, &x) || x.Signal != syscall.SIGKILL {
		t.Errorf("%#v", err)
	}
	if again := src.Read(f); again != err {
		t.Errorf("then %v", again)
	}
}

func TestSourceCancelAndClose(t *testing.T) {
	in := make0(t, args(testVideo("640x480", "25", "20"), "-f lavfi -i sine=d=20 -c:v libx264 -preset ultrafast -c:a aac a.mp4")...)
	info := probe(t, in)
	f := frame.New(WorkingFormat(*info.Video))
	for _, how := range []string{"cancel", "close"} {
		ctx, cancel := context.WithCancel(t.Context())
		src, err := OpenVideo(ctx, tools(t), in, info, VideoOptions{Format: f.Format})
		if err != nil {
			t.Fatal(err)
		}
		sound, err := OpenAudio(ctx, tools(t), in, info, 0, AudioOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(Pids()) != 2 {
			t.Errorf("children: %v", Pids())
		}
		began := time.AfterFunc(50*time.Millisecond, func() {
			if how == "cancel" {
				cancel()
				return
			}
			_ = src.Close()
			_ = sound.Close()
		})
		for err == nil {
			err = src.Read(f)
		}
		wantFault(t, err, fault.Cancelled)
		for err = nil; err == nil; {
			_, err = sound.Read(make([]float32, 100))
		}
		wantFault(t, err, fault.Cancelled)
		clean(t, filepath.Dir(in))
		began.Stop()
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
	in := make0(t, args(testVideo("320x240", "25", "4"), "-c:v libx264 -g 25 -movflags +faststart a.mp4")...)
	b, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, b[:len(b)*6/10], 0o600); err != nil {
		t.Fatal(err)
	}
	info := probe(t, in)
	f := frame.New(WorkingFormat(*info.Video))
	src, err := OpenVideo(t.Context(), tools(t), in, info, VideoOptions{Format: f.Format})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for err == nil {
		err = src.Read(f)
	}
	if errors.Is(err, io.EOF) {
		if !src.Short() || src.Expected() != 100 || src.Frames() < 30 || len(src.Warnings()) == 0 {
			t.Errorf("short %v, %d of %d frames, warnings %q", src.Short(), src.Frames(), src.Expected(), src.Warnings())
		}
	} else {
		wantFault(t, err, fault.Input)
	}
}
