package media

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/lipstream/lipstream/internal/child"
)

const (
	// pipeSize is the size of a pipe's buffer on Linux. The default of 64 KiB would
	// cause sixteen times as many context switches.
	pipeSize = 1 << 20
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

// startReader starts ffmpeg with a pipe from its standard output.
func startReader(ctx context.Context, tools Tools, args []string) (*child.Process, *os.File, error) {
	p, r, err := child.StartReader(ctx, command(tools.FFmpeg, args...), 0)
	if err == nil {
		enlarge(r)
	}
	return p, r, err
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
