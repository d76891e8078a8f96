//go:build linux

package media

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream/internal/frame"
)

// TestDiesWithUs kills a process that writes a video with -9 and waits for its ffmpeg
// to end too.
func TestDiesWithUs(t *testing.T) {
	if out := os.Getenv("LIPSTREAM_TEST_SINK"); out != "" {
		s := openSink(t, out, sinkOptions(small))
		if err := s.Write(frame.New(small)); err != nil {
			t.Fatal(err)
		}
		fmt.Println("pid", children(t)[0])
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
		return
	}
	tools(t)
	cmd := exec.Command(os.Args[0], "-test.run=TestDiesWithUs")
	cmd.Env = append(os.Environ(), "LIPSTREAM_TEST_SINK="+filepath.Join(t.TempDir(), "a.mp4"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, _ = strconv.Atoi(n)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if pid == 0 {
		t.Fatal("no child")
	}
	until(t, func() bool {
		// Its new parent may not have reaped it yet.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") || errors.Is(err, syscall.ESRCH)
	})
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"[mov] moov atom not found", "x: Invalid data found", "Conversion failed!"}, "[mov] moov atom not found"},
		{[]string{"first", "last", "Conversion failed!"}, "last"},
		{[]string{"Conversion failed!"}, ""},
		{nil, ""},
	} {
		if got := summary(c.lines); got != c.want {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
	}
}

func BenchmarkSource720p(b *testing.B) {
	in := generate(b, args(testVideo("1280x720", "25", "8"), "-c:v libx264 -preset veryfast a.mp4")...)
	info := probe(b, in)
	f := frame.New(WorkingFormat(*info.Video))
	b.SetBytes(int64(len(f.Data)))
	var src *VideoSource
	for b.Loop() {
		if src == nil || src.n == 200 {
			if src != nil {
				_ = src.Close()
			}
			var err error
			if src, err = OpenVideo(b.Context(), tools(b), in, info, VideoOptions{Format: f.Format}); err != nil {
				b.Fatal(err)
			}
		}
		if err := src.Read(f); err != nil {
			b.Fatal(err)
		}
	}
	_ = src.Close()
}
