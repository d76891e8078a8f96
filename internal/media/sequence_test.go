//go:build linux

package media

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

func TestSequence(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("160x120", "30000/1001", "1"), "-frames:v 20 -c:v libx264 -g 10 a.mp4")...)
	all := readAll(t, in, VideoOptions{})
	v := len(all)
	if v != 20 {
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
		for _, segment := range []int64{100, 7} {
			t.Run(fmt.Sprint(mode, segment), func(t *testing.T) {
				s, err := NewSequence(t.Context(), tools(t), in, info, VideoOptions{Format: format}, mode)
				if err != nil {
					t.Fatal(err)
				}
				s.segment = segment
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
				if err := s.Read(f); err == nil && mode != Pad && segment == 7 {
					t.Error("reads on after Close")
				}
			})
		}
	}
	t.Run("shortest", func(t *testing.T) {
		s, err := NewSequence(t.Context(), tools(t), in, info, VideoOptions{Format: format}, Shortest)
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

// TestPadOfShortVideo checks that Pad finds the last frame of a video that ends long before
// its header says.
func TestPadOfShortVideo(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("160x120", "25", "1"), "-c:v libx264 a.mp4")...)
	all := readAll(t, in, VideoOptions{})
	info := probe(t, in)
	format := WorkingFormat(*info.Video)
	s, err := NewSequence(t.Context(), tools(t), in, info, VideoOptions{Format: format}, Pad)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.src.want, s.segment = 100, 7
	f := frame.New(format)
	for i := range 40 {
		if err := s.Read(f); err != nil {
			t.Fatal(i, err)
		}
		if sha256.Sum256(f.Data) != all[min(i, len(all)-1)] {
			t.Fatalf("frame %d is not frame %d", i, min(i, len(all)-1))
		}
	}
	if !s.Short() {
		t.Error("the video is not reported as short")
	}
}

// counted returns tools that count how often ffmpeg is started.
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

// TestSequenceStarts checks that Pad starts no process at the end of a video, and that
// further passes of a short clip start only one.
func TestSequenceStarts(t *testing.T) {
	slow(t)
	in := generate(t, args(testVideo("160x120", "25", "1"), "-c:v libx264 a.mp4")...)
	info := probe(t, in)
	format := WorkingFormat(*info.Video)
	for mode, want := range map[Mode]int{Shortest: 1, Pad: 1, Loop: 2, PingPong: 2} {
		tl, count := counted(t)
		s, err := NewSequence(t.Context(), tl, in, info, VideoOptions{Format: format}, mode)
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
				// The file is no longer needed.
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
