//go:build linux

package media

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
)

func TestOutputPlace(t *testing.T) {
	slow(t)
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
		{filepath.Join(dir, "a.xyz"), fault.Usage, "is not that of a video container", false},
		{filepath.Join(dir, "none", "a.mp4"), fault.Output, "does not exist", false},
		{filepath.Join(dir, "d.mp4"), fault.Output, "is a directory", true},
		{filepath.Join(there, "a.mp4"), fault.Output, "", false},
		{other, fault.Output, "`overwrite`", false},
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
	for i := 0; ; i++ {
		noise(f, uint32(i))
		if each != nil {
			each(i)
		}
		if err := s.Write(f); err != nil {
			return err
		}
	}
}

func TestDiskFull(t *testing.T) {
	slow(t)
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
	slow(t)
	dir := t.TempDir()
	s := openSink(t, filepath.Join(dir, "a.mp4"), sinkOptions(small))
	err := feed(t, s, func(i int) {
		if i == 10 {
			for _, pid := range children(t) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
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
	err = feed(t, s, func(i int) {
		if i == 10 {
			cancel()
		}
	})
	wantFault(t, err, fault.Cancelled)
	// Nobody calls Close.
	until(t, func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 0
	})
	clean(t, dir)
	s = openSink(t, filepath.Join(dir, "a.mp4"), sinkOptions(small))
	err = feed(t, s, func(i int) {
		if i == 10 {
			go s.Close()
		}
	})
	wantFault(t, err, fault.Cancelled)
	clean(t, dir)
	s = openSink(t, filepath.Join(dir, "a.mp4"), sinkOptions(small))
	if err := s.Commit(); err == nil {
		t.Error("a file without frames")
	}
	clean(t, dir)
}

func TestOutputLink(t *testing.T) {
	slow(t)
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
