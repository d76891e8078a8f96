package media

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	// maxOutput bounds what a program may print, in bytes. ffprobe prints far less,
	// but a hostile file must not fill the memory.
	maxOutput = 64 << 20
	// fileSizeSignal ends a process that writes past its limit for the size of files.
	// It is SIGXFSZ, which package syscall does not have on Windows.
	fileSizeSignal = syscall.Signal(25)
)

// command returns a command that runs ffmpeg or ffprobe.
func command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	// Error texts are matched, so they must be in English and without colours.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1")
	return cmd
}

// ffmpeg returns a command that runs ffmpeg and prints only errors.
func (t Tools) ffmpeg(args ...[]string) *exec.Cmd {
	return command(t.FFmpeg, append([]string{"-hide_banner", "-nostdin", "-loglevel", "error", "-n"}, slices.Concat(args...)...)...)
}

// reader reads what ffmpeg writes to its standard output. One goroutine may call
// Read; another may call Close.
type reader struct {
	ctx    context.Context
	op     string // for errors: "read video a.mp4"
	ffmpeg *child.Process
	out    *os.File
	closed atomic.Bool
}

func openReader(ctx context.Context, tools Tools, op string, args []string) (*reader, error) {
	p, out, err := child.StartReader(ctx, tools.ffmpeg(args, []string{"pipe:1"}), 0)
	if err != nil {
		return nil, fault.Missing.Wrap("run ffmpeg", err)
	}
	enlarge(out)
	return &reader{ctx: ctx, op: op, ffmpeg: p, out: out}, nil
}

// Read returns io.EOF only if ffmpeg has succeeded.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.out.Read(p)
	if err == nil {
		return n, nil
	}
	if r.closed.Load() {
		return n, fault.Cancelled.Wrap(r.op, context.Canceled)
	}
	if !errors.Is(err, io.EOF) {
		r.ffmpeg.Kill() // after a broken pipe it could wait for us forever
	}
	exit := wait(r.ffmpeg)
	switch {
	case r.ctx.Err() != nil:
		return n, fault.Cancelled.Wrap(r.op, r.ctx.Err())
	case killed(exit):
		return n, fault.Internal.Wrap(r.op, exit, killedHint)
	case exit != nil:
		return n, fault.Input.Wrap(r.op, exit, openHint)
	}
	return n, err
}

// Close kills ffmpeg and waits for it. A blocked Read returns an error.
func (r *reader) Close() error {
	r.closed.Store(true)
	kill(r.ffmpeg)
	_ = r.out.Close()
	return nil
}

// output runs a program and returns what it printed.
func output(ctx context.Context, path string, args ...string) ([]byte, error) {
	out, err := child.Output(ctx, command(path, args...), 0, maxOutput)
	return out, explainExit(err)
}

// wait waits until a program has ended and returns how it failed.
func wait(p *child.Process) error { return explainExit(p.Wait()) }

// kill kills a program and waits until it has ended.
func kill(p *child.Process) {
	p.Kill()
	_ = p.Wait()
}

// killed reports whether err means that a signal ended a program.
func killed(err error) bool {
	x, ok := errors.AsType[*child.ExitError](err)
	return ok && x.Signal != 0
}

const killedHint = "if the machine ran out of memory, end other programs or make the video smaller"

// explainExit adds the most useful line that a program printed to its failure.
func explainExit(err error) error {
	x, ok := errors.AsType[*child.ExitError](err)
	if !ok {
		return err
	}
	text := x.End()
	if s := summary(x.Stderr); s != "" {
		text += ": " + s
	}
	return &explained{text, err}
}

// explained is an error with a better text.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// summary returns the most useful line. The last lines of ffmpeg are often just
// "Conversion failed!".
func summary(lines []string) string {
	for _, want := range []string{
		"No space left on device", "Disk quota exceeded", "File too large", "moov atom not found", "Read-only file system",
		"Permission denied", "Input/output error", "Invalid data found", "Cannot allocate memory", "Unknown encoder", "not found",
	} {
		for _, l := range lines {
			if strings.Contains(l, want) {
				return l
			}
		}
	}
	for _, l := range slices.Backward(lines) {
		if l != "Conversion failed!" {
			return l
		}
	}
	return ""
}
