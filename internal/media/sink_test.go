//go:build linux

package media

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	slow(t)
	voice := generate(t, args("-f lavfi -i sine=d=2:r=44100 -ac 2 v.wav")...)
	info := probe(t, voice)
	for _, c := range some(8, []struct {
		name, codec, video, audio string
		rate                      int
	}{
		{"a.mp4", "", "h264", "aac", 44100}, {"a.mp4", "hevc", "hevc", "aac", 44100}, {"a.MOV", "", "h264", "pcm_s16le", 44100},
		{"a.mov", "prores", "prores", "pcm_s16le", 44100}, {"a.mkv", "ffv1", "ffv1", "flac", 44100},
		{"a.webm", "", "vp9", "opus", 48000}, {"a.avi", "", "h264", "pcm_s16le", 44100}, {"a.mp4", "av1", "av1", "aac", 44100},
	}) {
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
	slow(t)
	for _, c := range some(6, []struct {
		make, out   string
		codec       string
		rate, chans int
	}{
		{"-f lavfi -i sine=d=2:r=22050 -c:a aac a.m4a", "o.mp4", "aac", 22050, 1},
		{"-f lavfi -i sine=d=2:r=48000 -ac 6 -c:a ac3 a.ac3", "o.mp4", "ac3", 48000, 6},
		{"-f lavfi -i sine=d=2:r=48000 -ac 6 -c:a ac3 a.ac3", "o.webm", "opus", 48000, 6},
		{"-f lavfi -i sine=d=2:r=192000 a.wav", "o.mp4", "aac", 96000, 1},
		{"-f lavfi -i sine=d=1:r=44100 -ac 2 -c:a libmp3lame a.mp3", "o.mkv", "aac", 44100, 2},
		{"-f lavfi -i sine=d=5:r=44100 -c:a flac a.flac", "o.mkv", "flac", 44100, 1},
		{"-f lavfi -i sine=d=2:r=48000 -ac 6 a.wav", "o.mp4", "aac", 48000, 6},
		{"-f lavfi -i sine=d=2:r=8000 a.wav", "o.mp4", "aac", 8000, 1},
		{"-f lavfi -i sine=d=5:r=44100 -ac 2 -c:a libmp3lame a.mp3", "o.mp4", "aac", 44100, 2},
	}) {
		t.Run(c.make+" "+c.out, func(t *testing.T) {
			info := probe(t, generate(t, args(c.make)...))
			out := filepath.Join(t.TempDir(), c.out)
			o := sinkOptions(small)
			o.Audio, o.Duration = info, 2*time.Second
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

// TestSoundFitsFrames checks that the sound has the length of the frames written, not
// the expected length.
func TestSoundFitsFrames(t *testing.T) {
	slow(t)
	little := small
	little.Width, little.Height = 128, 96
	voice := probe(t, generate(t, args("-f lavfi -i sine=d=2:r=44100 a.wav")...))
	write := func(t *testing.T, out, codec string, expected time.Duration) *Info {
		t.Helper()
		o := sinkOptions(little)
		o.Codec, o.Audio, o.Duration = codec, voice, expected
		o.Metadata = map[string]string{"comment": "made by a test"}
		s := openSink(t, out, o)
		f := frame.New(little)
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
	for _, c := range some(4, [][2]string{{"a.mp4", ""}, {"a.mp4", "hevc"}, {"a.mkv", "ffv1"}, {"a.webm", ""}, {"a.mov", ""}, {"a.mkv", ""}, {"a.avi", ""}}) {
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
					for t.Context().Err() == nil {
						if _, err := os.Stat(wrapper + ".on"); err == nil {
							break
						}
						time.Sleep(time.Millisecond)
					}
					cancel()
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
