//go:build linux

package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

var small = frame.Format{Width: 320, Height: 240, ShiftX: 1, ShiftY: 1, Depth: 8}

func sinkOptions(f frame.Format) SinkOptions {
	return SinkOptions{Format: f, Rate: Rational{25, 1}, Tags: Tags{Range: "tv", Space: "smpte170m"}, Preset: "ultrafast"}
}

func openSink(t *testing.T, path string, o SinkOptions) *Sink {
	t.Helper()
	s, err := OpenSink(t.Context(), tools(t), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// noise fills a frame so that it does not compress.
func noise(f *frame.Frame, seed uint32) {
	for i := range f.Data {
		seed = seed*1664525 + 1013904223
		f.Data[i] = byte(seed >> 24)
	}
}

func TestContainersAndCodecs(t *testing.T) {
	voice := make0(t, args("-f lavfi -i sine=d=2:r=44100 -ac 2 v.wav")...)
	info := probe(t, voice)
	for _, c := range []struct {
		name, codec, video, audio string
		rate                      int
	}{
		{"a.mp4", "", "h264", "aac", 44100}, {"a.mp4", "hevc", "hevc", "aac", 44100}, {"a.MOV", "", "h264", "pcm_s16le", 44100},
		{"a.mov", "prores", "prores", "pcm_s16le", 44100}, {"a.mkv", "ffv1", "ffv1", "flac", 44100},
		{"a.webm", "", "vp9", "opus", 48000}, {"a.avi", "", "h264", "pcm_s16le", 44100}, {"a.mp4", "av1", "av1", "aac", 44100},
	} {
		t.Run(c.name+" "+c.codec, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), c.name)
			o := sinkOptions(small)
			o.Audio, o.Duration, o.Codec = info, time.Second, c.codec
			o.Metadata = map[string]string{"comment": "made by a test", "lipstream_engine": "preview = 1;#\\"}
			s, err := OpenSink(t.Context(), tools(t), out, o)
			if fault.KindOf(err) == fault.Missing {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			f := frame.New(small)
			for i := range 25 {
				f.Data[i] = 200
				if err := s.Write(f); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Commit(); err != nil {
				t.Fatal(err)
			}
			got := probe(t, out)
			v, a := got.Video, got.Audio[0]
			if v.Codec != c.video || v.Frames != 25 || v.FrameRate != o.Rate || (v.Duration-time.Second).Abs() > 10*time.Millisecond {
				t.Errorf("%+v", v)
			}
			if a.Codec != c.audio || a.SampleRate != c.rate || a.Channels != 2 || (a.Duration-time.Second).Abs() > 50*time.Millisecond {
				t.Errorf("%+v", a)
			}
			if !strings.EqualFold(filepath.Ext(out), ".avi") && c.video != "prores" && (v.ColorSpace != "smpte170m" || v.ColorRange != "tv") {
				t.Errorf("colours %q %q", v.ColorSpace, v.ColorRange)
			}
			text, err := exec.Command(tools(t).FFprobe, "-v", "error", "-show_format", out).Output()
			if err != nil || !strings.Contains(strings.ToLower(string(text)), "=made by a test") {
				t.Errorf("metadata: %v %s", err, text)
			}
			if ext := filepath.Ext(out); ext == ".mp4" && !strings.Contains(string(text), "preview = 1;#\\") {
				t.Errorf("metadata: %s", text)
			}
			clean(t, filepath.Dir(out))
		})
	}
}

func TestDrivingAudio(t *testing.T) {
	for _, c := range []struct {
		make, out   string
		start, end  time.Duration
		codec       string
		rate, chans int
	}{
		{"-f lavfi -i sine=d=2:r=22050 -c:a aac a.m4a", "o.mp4", 0, 0, "aac", 22050, 1},
		{"-f lavfi -i sine=d=2:r=48000 -ac 6 -c:a ac3 a.ac3", "o.mp4", 0, 0, "ac3", 48000, 6},
		{"-f lavfi -i sine=d=2:r=48000 -ac 6 a.wav", "o.mp4", 0, 0, "aac", 48000, 6},
		{"-f lavfi -i sine=d=2:r=48000 -ac 6 -c:a ac3 a.ac3", "o.webm", 0, 0, "opus", 48000, 6},
		{"-f lavfi -i sine=d=2:r=8000 a.wav", "o.mp4", 0, 0, "aac", 8000, 1},
		{"-f lavfi -i sine=d=2:r=192000 a.wav", "o.mp4", 0, 0, "aac", 96000, 1},
		{"-f lavfi -i sine=d=5:r=44100 -ac 2 -c:a libmp3lame a.mp3", "o.mp4", 0, 0, "aac", 44100, 2},
		{"-f lavfi -i sine=d=1:r=44100 -ac 2 -c:a libmp3lame a.mp3", "o.mkv", 0, 0, "aac", 44100, 2},
		{"-f lavfi -i sine=d=5:r=44100 -c:a flac a.flac", "o.mkv", 500 * time.Millisecond, 1500 * time.Millisecond, "flac", 44100, 1},
	} {
		t.Run(c.make+" "+c.out, func(t *testing.T) {
			info := probe(t, make0(t, args(c.make)...))
			out := filepath.Join(t.TempDir(), c.out)
			o := sinkOptions(small)
			o.Audio, o.AudioStart, o.AudioEnd, o.Duration = info, c.start, c.end, 2*time.Second
			s := openSink(t, out, o)
			f := frame.New(small)
			for range 50 {
				if err := s.Write(f); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Commit(); err != nil {
				t.Fatal(err)
			}
			got := probe(t, out)
			a := got.Audio[0]
			if a.Codec != c.codec || a.SampleRate != c.rate || a.Channels != c.chans || (a.Duration-2*time.Second).Abs() > 60*time.Millisecond {
				t.Errorf("%+v", a)
			}
			if got.Video.Frames != 50 {
				t.Errorf("%+v", got.Video)
			}
		})
	}
}

// The sound follows the frames written, not the length that was expected.
func TestSoundFitsFrames(t *testing.T) {
	voice := probe(t, make0(t, args("-f lavfi -i sine=d=2:r=44100 a.wav")...))
	write := func(t *testing.T, out, codec string, expected time.Duration) *Info {
		t.Helper()
		o := sinkOptions(small)
		o.Codec, o.Audio, o.Duration, o.Threads = codec, voice, expected, 1
		o.Metadata = map[string]string{"comment": "made by a test"}
		s := openSink(t, out, o)
		f := frame.New(small)
		for i := range 25 {
			noise(f, uint32(i))
			if err := s.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		clean(t, filepath.Dir(out))
		return probe(t, out)
	}
	for _, c := range [][2]string{{"a.mp4", ""}, {"a.mp4", "hevc"}, {"a.mov", ""}, {"a.mkv", ""}, {"a.mkv", "ffv1"}, {"a.webm", ""}, {"a.avi", ""}} {
		t.Run(c[0]+" "+c[1], func(t *testing.T) {
			dir := t.TempDir()
			right := filepath.Join(dir, "right"+c[0])
			want, pictures := write(t, right, c[1], time.Second), readAll(t, right, VideoOptions{})
			for _, expected := range []time.Duration{500 * time.Millisecond, 5 * time.Second} {
				out := filepath.Join(dir, expected.String()+c[0])
				got := write(t, out, c[1], expected)
				if got.Audio[0].Duration < 950*time.Millisecond || got.Audio[0].Duration > 1050*time.Millisecond {
					t.Errorf("expected %v: sound %+v", expected, got.Audio[0])
				}
				v, w := got.Video, want.Video
				if v.Frames != w.Frames || v.FrameRate != w.FrameRate || v.VFR || (v.Duration-w.Duration).Abs() > time.Millisecond ||
					v.Start != w.Start || v.ColorRange != w.ColorRange || v.ColorSpace != w.ColorSpace || v.Codec != w.Codec {
					t.Errorf("expected %v: %+v\nwant %+v", expected, v, w)
				}
				if !slices.Equal(readAll(t, out, VideoOptions{}), pictures) {
					t.Errorf("expected %v: other pictures", expected)
				}
				text, err := exec.Command(tools(t).FFprobe, "-v", "error", "-show_format", "-show_streams", out).Output()
				if err != nil || !strings.Contains(strings.ToLower(string(text)), "=made by a test") {
					t.Errorf("metadata: %v %s", err, text)
				}
				if c[1] == "hevc" && !strings.Contains(string(text), "codec_tag_string=hvc1") {
					t.Errorf("tag: %s", text)
				}
			}
		})
	}
	for how, line := range map[string]string{"fails": "echo broken >&2; exit 1", "is cancelled": "sleep 60"} {
		t.Run(how, func(t *testing.T) {
			tl, dir := tools(t), t.TempDir()
			wrapper := filepath.Join(t.TempDir(), "ffmpeg")
			script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *'-c:v copy'*) for to; do :; done; echo half >\"${to#file:}\"; touch '%s.on'; %s;; esac\nexec '%s' \"$@\"\n", wrapper, line, tl.FFmpeg)
			if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			tl.FFmpeg = wrapper
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := sinkOptions(small)
			o.Audio, o.Duration = voice, 5*time.Second
			s, err := OpenSink(ctx, tl, filepath.Join(dir, "a.mp4"), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Write(frame.New(small)); err != nil {
				t.Fatal(err)
			}
			kind, word := fault.Output, "broken"
			if how != "fails" {
				kind, word = fault.Cancelled, ""
				go func() {
					for {
						if _, err := os.Stat(wrapper + ".on"); err == nil || t.Context().Err() != nil {
							cancel()
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
			}
			wantFault(t, s.Commit(), kind, word)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			clean(t, dir)
		})
	}
}

func samples(t *testing.T, path string, track int, o AudioOptions) []float32 {
	t.Helper()
	src, err := OpenAudio(t.Context(), tools(t), path, probe(t, path), track, o)
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

func TestAudioSource(t *testing.T) {
	wav := make0(t, args("-f lavfi -i sine=d=2:r=44100 -ac 2 a.wav")...)
	if n := len(samples(t, wav, 0, AudioOptions{SampleRate: 16000})); n != 32000 {
		t.Errorf("%d samples", n)
	}
	if n := len(samples(t, wav, 0, AudioOptions{Channels: 2})); n != 2*88200 {
		t.Errorf("%d samples", n)
	}
	whole := samples(t, wav, 0, AudioOptions{})
	part := samples(t, wav, 0, AudioOptions{Start: 500 * time.Millisecond, End: time.Second})
	if len(part) != 22050 || !slices.Equal(part, whole[22050:44100]) {
		t.Errorf("%d samples in the part, or others", len(part))
	}
	// Sound on the centre channel alone comes through the mix.
	six := make0(t, "-f", "lavfi", "-i", "aevalsrc=0|0|sin(2000*t)|0|0|0:c=5.1:d=1:s=48000", "a.wav")
	if s := samples(t, six, 0, AudioOptions{SampleRate: 16000}); len(s) != 16000 || loudness(s) < 0.1 {
		t.Errorf("%d samples, loudness %f", len(s), loudness(s))
	}
	// A track that starts late starts with silence, in every container.
	for _, ext := range []string{"mp4", "mkv", "ts"} {
		late := make0(t, append(args(testVideo("64x48", "25", "2"), "-itsoffset 0.5 -f lavfi -i sine=d=1:r=48000 -map 0 -map 1 -c:v libx264 -bf 0 -c:a aac"), "a."+ext)...)
		s := samples(t, late, 0, AudioOptions{SampleRate: 16000})
		if len(s) < 23500 || len(s) > 25000 || loudness(s[:7500]) > 0.001 || loudness(s[8500:12000]) < 0.05 {
			t.Errorf("%s: %d samples, loudness %f, then %f", ext, len(s), loudness(s[:min(len(s), 7500)]), loudness(s[min(len(s), 8500):]))
		}
		// And the output has it at the same time.
		for _, force := range []time.Duration{0, 3 * time.Second} {
			out := filepath.Join(t.TempDir(), "o.mp4")
			pass(t, late, out, func(o *SinkOptions) { o.Duration = force })
			d := samples(t, out, 0, AudioOptions{SampleRate: 16000})
			if len(d) < 23500 || loudness(d[:7000]) > 0.005 || loudness(d[8500:12000]) < 0.05 {
				t.Errorf("%s, duration %v: %d samples, loudness %f, then %f", ext, force, len(d), loudness(d[:7000]), loudness(d[8500:]))
			}
		}
	}
	empty := make0(t, args("-f lavfi -i sine=d=1 -t 0 a.wav")...)
	info, err := Probe(t.Context(), tools(t), empty)
	if err == nil {
		var src *AudioSource
		if src, err = OpenAudio(t.Context(), tools(t), empty, info, 0, AudioOptions{}); err == nil {
			_, err = src.Read(make([]float32, 10))
			_ = src.Close()
		}
	}
	wantFault(t, err, fault.Input, "no audio")
	_, err = OpenAudio(t.Context(), tools(t), wav, probe(t, wav), 1, AudioOptions{})
	wantFault(t, err, fault.Usage, "no audio track 1")
}

func TestOutputPlace(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.mp4")
	if err := os.WriteFile(there, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.mp4")
	if err := os.WriteFile(other, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.mp4")
	if err := os.Symlink(there, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d.mp4"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		kind fault.Kind
		text string
		over bool
	}{
		{filepath.Join(dir, "a.xyz"), fault.Usage, "no known container", false},
		{filepath.Join(dir, "none", "a.mp4"), fault.Output, "does not exist", false},
		{filepath.Join(dir, "d.mp4"), fault.Output, "is a directory", true},
		{filepath.Join(there, "a.mp4"), fault.Output, "", false},
		{other, fault.Output, "--overwrite", false},
		{link, fault.Output, "same file as the input", true},
	} {
		_, err := OpenSink(t.Context(), tools(t), c.path, SinkOptions{Format: small, Rate: Rational{25, 1}, Inputs: []string{there}, Overwrite: c.over})
		wantFault(t, err, c.kind, c.text)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		wantFault(t, CheckOutput(filepath.Join(dir, "n.mp4"), false), fault.Output, "cannot be written")
		_ = os.Chmod(dir, 0o700)
	}
	for _, o := range []SinkOptions{{Codec: "vp8"}, {Codec: "ffv1"}, {Preset: "warp"}} {
		o.Format, o.Rate = small, Rational{25, 1}
		_, err := OpenSink(t.Context(), tools(t), filepath.Join(dir, "n.mp4"), o)
		wantFault(t, err, fault.Usage, "one of")
	}
	// A name that is taken while the job runs is not overwritten.
	late := filepath.Join(dir, "late.mp4")
	s := openSink(t, late, sinkOptions(small))
	if err := s.Write(frame.New(small)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(late, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFault(t, s.Commit(), fault.Output, "exists")
	if b, _ := os.ReadFile(late); string(b) != "other" {
		t.Error("overwritten")
	}
	o := sinkOptions(small)
	o.Overwrite = true
	s = openSink(t, late, o)
	if err := s.Write(frame.New(small)); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(late); string(b) != "other" {
		t.Error("gone before it was replaced")
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	probe(t, late)
	clean(t, dir)
}

// feed writes noise until the sink fails.
func feed(t *testing.T, s *Sink, each func(i int)) error {
	t.Helper()
	f := frame.New(s.o.Format)
	for i := range 500 {
		noise(f, uint32(i))
		if each != nil {
			each(i)
		}
		if err := s.Write(f); err != nil {
			return err
		}
	}
	return s.Commit()
}

func TestDiskFull(t *testing.T) {
	t.Run("size limit", func(t *testing.T) {
		tl, dir := tools(t), t.TempDir()
		wrapper := filepath.Join(t.TempDir(), "ffmpeg")
		script := fmt.Sprintf("#!/bin/sh\nulimit -f 600\nexec %s \"$@\"\n", tl.FFmpeg)
		if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		tl.FFmpeg = wrapper
		s, err := OpenSink(t.Context(), tl, filepath.Join(dir, "a.mp4"), sinkOptions(small))
		if err != nil {
			t.Fatal(err)
		}
		wantFault(t, feed(t, s, nil), fault.Output, "size limit")
		clean(t, dir)
	})
	for _, name := range []string{"a.mp4", "a.mkv"} {
		t.Run("no space "+name, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=400k"); err != nil {
				t.Skip("needs the right to mount: ", err)
			}
			defer func() { _ = syscall.Unmount(dir, 0) }()
			s := openSink(t, filepath.Join(dir, name), sinkOptions(small))
			wantFault(t, feed(t, s, nil), fault.Output, "disk is full", "free some space")
			clean(t, dir)
			// So little that it fits ffmpeg's buffer and fails at the very end.
			if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 1<<20), 0o600); err == nil {
				t.Error("not full")
			}
			s = openSink(t, filepath.Join(dir, name), sinkOptions(small))
			err := s.Write(frame.New(small))
			if err == nil {
				err = s.Commit()
			}
			wantFault(t, err, fault.Output, "disk is full")
			clean(t, dir)
		})
	}
}

func TestSinkKilled(t *testing.T) {
	dir := t.TempDir()
	s := openSink(t, filepath.Join(dir, "a.mp4"), sinkOptions(small))
	var at time.Time
	err := feed(t, s, func(i int) {
		if i == 10 {
			at = time.Now()
			for _, pid := range Pids() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	if d := time.Since(at); d > 15*time.Second {
		t.Errorf("noticed after %v", d)
	}
	wantFault(t, err, fault.Internal, "killed by signal 9")
	if again := s.Commit(); again != err {
		t.Error(again)
	}
	clean(t, dir)
}

func TestSinkCancel(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := OpenSink(ctx, tools(t), filepath.Join(dir, "a.mp4"), sinkOptions(small))
	if err != nil {
		t.Fatal(err)
	}
	var at time.Time
	err = feed(t, s, func(i int) {
		if i == 10 {
			at = time.Now()
			cancel()
		}
	})
	if d := time.Since(at); d > 15*time.Second {
		t.Errorf("noticed after %v", d)
	}
	wantFault(t, err, fault.Cancelled)
	// Nobody calls Close.
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if entries, _ := os.ReadDir(dir); len(entries) == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("left: %v", entries)
		}
	}
	clean(t, dir)
	s = openSink(t, filepath.Join(dir, "a.mp4"), sinkOptions(small))
	time.AfterFunc(30*time.Millisecond, func() { _ = s.Abort() })
	wantFault(t, feed(t, s, nil), fault.Cancelled)
	clean(t, dir)
	s = openSink(t, filepath.Join(dir, "a.mp4"), sinkOptions(small))
	if err := s.Commit(); err == nil {
		t.Error("a file without frames")
	}
	clean(t, dir)
}

func TestOutputLink(t *testing.T) {
	dir, far := t.TempDir(), t.TempDir()
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wantFault(t, CheckOutput(link("nowhere.mp4", filepath.Join(far, "none", "a.mp4")), true), fault.Output, "does not exist")
	wantFault(t, CheckOutput(link("self.mp4", "self.mp4"), true), fault.Output, "leads to itself")
	target := filepath.Join(far, "a.mp4")
	out := link("link.mp4", target)
	for range 2 { // the target is made, then replaced
		o := sinkOptions(small)
		o.Overwrite = true
		s := openSink(t, out, o)
		if err := s.Write(frame.New(small)); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Lstat(out); err != nil || st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the link is gone: %v", err)
		}
		if st, err := os.Lstat(target); err != nil || !st.Mode().IsRegular() {
			t.Errorf("the target: %v", err)
		}
		probe(t, out)
	}
	wantFault(t, CheckOutput(out, false), fault.Output, "exists already")
	clean(t, dir)
	clean(t, far)
}
