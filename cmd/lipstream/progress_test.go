package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream"
)

var updateProgress = flag.Bool("update-progress", false, "rewrite the golden files of the progress tests")

const gib = 1 << 30

// script returns the events of a job, with the pause before each of them.
func script() []struct {
	pause time.Duration
	event lipstream.Event
} {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	frames := func(n int64, fps float64, eta, elapsed time.Duration) lipstream.Event {
		return lipstream.Event{Type: lipstream.EventProgress, Time: at, Phase: lipstream.PhaseFrames, Frame: n, Frames: 250,
			FPS: fps, ETA: eta, Elapsed: elapsed, MemoryNow: gib * 5 / 4, MemoryPeak: gib * 3 / 2}
	}
	noFace := frames(200, 25, 2*time.Second, 9*time.Second)
	noFace.NoFace = 3
	return []struct {
		pause time.Duration
		event lipstream.Event
	}{
		{0, lipstream.Event{Type: lipstream.EventStart, Time: at, Engine: "preview", Output: "out.mp4"}},
		{0, lipstream.Event{Type: lipstream.EventPhase, Time: at, Phase: lipstream.PhaseProbe}},
		{time.Second, lipstream.Event{Type: lipstream.EventProgress, Time: at, Phase: lipstream.PhaseProbe, Elapsed: time.Second, MemoryNow: gib}},
		{0, lipstream.Event{Type: lipstream.EventPhase, Time: at, Phase: lipstream.PhaseFrames, Frames: 250}},
		{50 * time.Millisecond, frames(1, 20, 13*time.Second, 1050*time.Millisecond)}, // too soon for the bar
		{time.Second, frames(25, 24.61, 9100*time.Millisecond, 2*time.Second)},
		{time.Second, frames(50, 25, 8*time.Second, 3*time.Second)},
		{0, lipstream.Event{Type: lipstream.EventWarning, Time: at, Message: "face <lost>\nat frame 51\x1b[31m"}},
		{0, lipstream.Event{Type: lipstream.EventAlert, Time: at, Phase: lipstream.PhaseFrames, Message: "memory: 15.2 GiB of 24.0 GiB"}},
		{0, lipstream.Event{Type: lipstream.EventPlan, Time: at, Phase: lipstream.PhaseFrames, Message: "1 window in flight instead of 2"}},
		{5 * time.Second, noFace},
		{time.Second, frames(250, 25, 0, 10*time.Second)},
		{0, lipstream.Event{Type: lipstream.EventPhase, Time: at, Phase: lipstream.PhaseFinish}},
		{0, lipstream.Event{Type: lipstream.EventDone, Time: at, Frame: 250, Frames: 250, Elapsed: 10200 * time.Millisecond,
			MemoryPeak: gib * 3 / 2, NoFace: 3, Engine: "preview", Output: "out.mp4"}},
	}
}

// kind makes a reporter that writes to a buffer.
type kind func(out *bytes.Buffer, now func() time.Time) *reporter

func barKind(width int, color bool) kind {
	return func(out *bytes.Buffer, now func() time.Time) *reporter {
		b := &bar{out: out, width: func() int { return width }, color: color, now: now}
		return &reporter{show: b.show, clear: b.clear}
	}
}

func linesKind(out *bytes.Buffer, now func() time.Time) *reporter {
	return &reporter{show: (&lines{out: out, now: now}).show}
}

func jsonKind(out *bytes.Buffer, _ func() time.Time) *reporter {
	return newReporter(&console{Out: out, Err: io.Discard}, true, false, nil)
}

func quietKind(out *bytes.Buffer, _ func() time.Time) *reporter {
	return newReporter(&console{Out: out, Err: out}, false, true, nil)
}

// play sends the script to a reporter with a fake clock, and returns its output.
func play(k kind) string {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	r := k(&out, func() time.Time { return now })
	for _, s := range script() {
		now = now.Add(s.pause)
		r.Observe(s.event)
	}
	if err := r.Close(); err != nil {
		return err.Error()
	}
	r.Observe(lipstream.Event{Type: lipstream.EventWarning, Message: "after Close"})
	return out.String()
}

func TestReportersGolden(t *testing.T) {
	tests := []struct {
		file string
		kind kind
	}{
		{"bar-100.txt", barKind(100, false)},
		{"bar-60.txt", barKind(60, false)},
		{"bar-20.txt", barKind(20, false)},
		{"bar-color.txt", barKind(100, true)},
		{"lines.txt", linesKind},
		{"events.jsonl", jsonKind},
		{"quiet.txt", quietKind},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			got := play(tt.kind)
			if strings.HasPrefix(tt.file, "bar-") {
				// One redraw per line, control characters visible.
				got = strings.NewReplacer("\r", "\\r\n", "\x1b", "\\e", "\n", "\\n\n").Replace(got) + "\n"
			}
			golden := filepath.Join("testdata", "progress", tt.file)
			if *updateProgress {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestBarStaysInOneRow draws on terminals of many widths. No line may wrap, and only
// the permanent lines may remain.
func TestBarStaysInOneRow(t *testing.T) {
	for width := 1; width <= 140; width++ {
		screen := play(barKind(width, false))
		for _, row := range strings.Split(screen, "\n") {
			for _, draw := range strings.Split(row, "\r") {
				text := strings.TrimRight(draw, " ")
				if strings.HasPrefix(text, "done:") || strings.HasPrefix(text, "warning:") || strings.HasPrefix(text, "alert:") || strings.HasPrefix(text, "plan:") || strings.HasPrefix(text, "engine ") {
					continue // permanent lines may wrap
				}
				if n := utf8.RuneCountInString(draw); n >= max(width, 2) {
					t.Fatalf("width %d: %d columns: %q", width, n, draw)
				}
			}
		}
		if left := visible(screen); strings.Contains(left, "%") || strings.Contains(left, "|") {
			t.Fatalf("width %d: left on the screen: %q", width, left)
		}
	}
}

// visible returns what a terminal shows after s: it applies carriage returns.
func visible(s string) string {
	var rows []string
	for _, raw := range strings.Split(s, "\n") {
		var row []rune
		for _, part := range strings.Split(raw, "\r") {
			for i, r := range []rune(part) {
				if i < len(row) {
					row[i] = r
				} else {
					row = append(row, r)
				}
			}
		}
		rows = append(rows, strings.TrimRight(string(row), " "))
	}
	return strings.Join(rows, "\n")
}

func TestBarIsGoneAfterError(t *testing.T) {
	var out bytes.Buffer
	r := barKind(80, false)(&out, time.Now)
	r.Observe(lipstream.Event{Type: lipstream.EventProgress, Phase: "frames", Frame: 5, Frames: 10})
	r.Observe(lipstream.Event{Type: lipstream.EventError, Message: "printed by printError"})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	printError(&out, errors.New("boom"), false)
	if got := visible(out.String()); got != "lipstream: boom\n" {
		t.Errorf("screen %q", got)
	}
}

// TestJSONFormat checks that every line can be read back, and that Close returns the
// first error of the writer.
func TestJSONFormat(t *testing.T) {
	for line := range strings.Lines(play(jsonKind)) {
		var e lipstream.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	lost := 0
	r := newReporter(&console{Out: &failingWriter{}}, true, false, func() { lost++ })
	r.Observe(lipstream.Event{})
	r.Observe(lipstream.Event{})
	if err := r.Close(); err == nil || err.Error() != "print events: write 1 failed" || lost != 1 {
		t.Errorf("Close: %v, lost %d times", err, lost)
	}
}

type failingWriter struct{ n int }

func (w *failingWriter) Write([]byte) (int, error) {
	w.n++
	return 0, fmt.Errorf("write %d failed", w.n)
}

func TestReportersAreConcurrent(t *testing.T) {
	for _, k := range []kind{quietKind, barKind(80, false), linesKind, jsonKind} {
		r := k(&bytes.Buffer{}, time.Now)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range int64(50) {
					r.Observe(lipstream.Event{Type: lipstream.EventProgress, Phase: "frames", Frame: i, Frames: 50})
				}
			})
		}
		wg.Go(func() { _ = r.Close() })
		wg.Wait()
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestNewReporter checks what is written where, for the flags of a command.
func TestNewReporter(t *testing.T) {
	for _, tt := range []struct {
		json, quiet bool
		out, err    bool // something is written there
	}{{false, false, false, true}, {false, true, false, false}, {true, false, true, false}, {true, true, true, false}} {
		var out, err bytes.Buffer
		newReporter(&console{Out: &out, Err: &err}, tt.json, tt.quiet, nil).Observe(lipstream.Event{Type: lipstream.EventWarning, Message: "x"})
		if (out.Len() > 0) != tt.out || (err.Len() > 0) != tt.err {
			t.Errorf("json %v quiet %v: out %q, err %q", tt.json, tt.quiet, out.String(), err.String())
		}
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0:00", 0: "0:00", 999 * time.Millisecond: "0:00", 59 * time.Second: "0:59",
		61 * time.Second: "1:01", 3723 * time.Second: "1:02:03", 100 * time.Hour: "100:00:00",
	} {
		if got := clock(d); got != want {
			t.Errorf("clock(%v) = %q, want %q", d, got, want)
		}
	}
}
