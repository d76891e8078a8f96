package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestPrintError(t *testing.T) {
	_, openErr := os.Open("/nonexistent/in.mp4")
	deep := fault.Input.Wrap("run job", fault.Input.Wrap("read video in.mp4", openErr,
		"Check the path."))
	tests := []struct {
		name  string
		err   error
		debug bool
		want  string
	}{
		{"nil", nil, true, ""},
		{"plain", errors.New("boom"), false, "lipstream: boom\n"},
		{"hint", fault.Missing.New("find ffmpeg", "not in PATH", "Install ffmpeg."), false,
			"lipstream: find ffmpeg: not in PATH\nhint: Install ffmpeg.\n"},
		{"multi-line cause", fault.Input.New("decode a.mp4", "moov atom not found\r\n\n  a.mp4: Invalid data\n"), false,
			"lipstream: decode a.mp4: moov atom not found; a.mp4: Invalid data\n"},
		{"control characters", fault.Input.New("decode a\x1b[31mb\a\u202ec.mp4", "\x1b]0;title\x07x\ty\x00"), false,
			"lipstream: decode abc.mp4: x y\n"},
		{"debug chain", deep, true, `lipstream: run job: read video in.mp4: open /nonexistent/in.mp4: no such file or directory
hint: Check the path.
debug: kind=input op="run job" cause=read video in.mp4: open /nonexistent/in.mp4: no such file or directory
debug: kind=input op="read video in.mp4" hint="Check the path." cause=open /nonexistent/in.mp4: no such file or directory
debug: *fs.PathError: open /nonexistent/in.mp4: no such file or directory
debug: syscall.Errno: no such file or directory
`},
		{"debug joined", fmt.Errorf("both: %w", errors.Join(errors.New("a"), fault.Output.New("write b", "full"))), true, `lipstream: both: a; write b: full
debug: *fmt.wrapError: both: a; write b: full
debug: *errors.joinError: a; write b: full
debug:   *errors.errorString: a
debug:   kind=output op="write b" cause=full
debug:   *errors.errorString: full
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			printError(&b, tt.err, tt.debug)
			// Each system has its own text.
			want := strings.ReplaceAll(tt.want, "no such file or directory", fault.WithoutPath(openErr).Error())
			if d := cmp.Diff(want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPrintErrorIsBounded(t *testing.T) {
	long := "start " + strings.Repeat("lots of ffmpeg output é\n", 1000) + "the reason"
	var b bytes.Buffer
	printError(&b, errors.New(long), false)
	got := strings.TrimSuffix(b.String(), "\n")
	if n := utf8.RuneCountInString(got); n > maxErrorLine+len("lipstream: ") {
		t.Errorf("%d runes", n)
	}
	if !strings.HasPrefix(got, "lipstream: start ") || !strings.HasSuffix(got, "the reason") || strings.Contains(got, "\n") {
		t.Errorf("got %q", got)
	}
}

func TestExitCode(t *testing.T) {
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fault.Usage.New("parse --x", "unknown"), 2},
		{fmt.Errorf("outer: %w", fault.Missing.New("find ffmpeg", "absent")), 5},
		{context.Canceled, 130},
		{fault.Input.Wrap("read x", fs.ErrNotExist), 3},
	}
	for _, tt := range tests {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

// FuzzOneLine checks the length and the runes of oneLine for any text.
func FuzzOneLine(f *testing.F) {
	for _, s := range []string{"", "a\nb", "\x1b[31mred\x1b[0m", "\x1b]8;;x", "\x1b", "\x1b[", "\x1bé", "\xff\xfe", "a\u2028b", "\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := oneLine(s, 40)
		if n := utf8.RuneCountInString(got); n > 40 {
			t.Errorf("%d runes: %q", n, got)
		}
		for _, r := range got {
			if printable(r) != r {
				t.Errorf("%q holds %U", got, r)
			}
		}
	})
}

func TestNotATerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if isTerminal(f) || isTerminal(&bytes.Buffer{}) || useColor(f) {
		t.Error("a file counts as a terminal")
	}
	if w := terminalWidth(f); w != 80 {
		t.Errorf("width %d", w)
	}
}
