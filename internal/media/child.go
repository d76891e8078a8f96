package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ExitError describes the failure of a child process.
type ExitError struct {
	Program string
	Code    int            // exit code, -1 after a signal
	Signal  syscall.Signal // 0 when it exited by itself
	Stderr  []string       // the last lines that it printed
}

// Error returns how the program ended and the most useful line that it printed.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("%s failed with exit code %d", e.Program, e.Code)
	if e.Signal != 0 {
		how = fmt.Sprintf("%s was killed by signal %d (%s)", e.Program, int(e.Signal), e.Signal)
	}
	if s := summary(e.Stderr); s != "" {
		how += ": " + s
	}
	return how
}

// pipeSize is the size of a pipe's buffer on Linux. The default of 64 KiB would
// cause sixteen times as many context switches.
const pipeSize = 1 << 20

// child is a running program in its own process group, so that Ctrl-C on the
// terminal only reaches us, and killing it also kills its children.
type child struct {
	cmd    *exec.Cmd
	name   string
	tail   *tail
	done   chan struct{} // closed when the child has ended
	err    error         // how it ended; valid after done
	mu     sync.Mutex
	reaped bool
	killed atomic.Bool // by us
	stop   func() bool // ends the watch on the context
}

// start runs a program. It dies when ctx ends.
func start(ctx context.Context, name, path string, args []string, stdin, stdout *os.File) (*child, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &child{name: name, tail: &tail{}, done: make(chan struct{})}
	c.cmd = exec.Command(path, args...)
	// Error texts are matched, so they must be in English and without colours.
	c.cmd.Env = append(os.Environ(), "LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1")
	// A nil *os.File in an interface is not a nil interface.
	if stdin != nil {
		c.cmd.Stdin = stdin
	}
	if stdout != nil {
		c.cmd.Stdout = stdout
	}
	c.cmd.Stderr = c.tail
	// A grandchild that holds stderr must not block Wait.
	c.cmd.WaitDelay = 300 * time.Millisecond
	if err := startCommand(c.cmd); err != nil {
		return nil, err
	}
	running.add(c.cmd.Process.Pid)
	go c.reap()
	c.stop = context.AfterFunc(ctx, c.kill)
	return c, nil
}

func (c *child) reap() {
	err := c.cmd.Wait()
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	running.remove(c.cmd.Process.Pid)
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil {
		x := &ExitError{Program: c.name, Code: c.cmd.ProcessState.ExitCode(), Stderr: c.tail.lines()}
		if sig, ok := exitSignal(c.cmd.ProcessState); ok {
			x.Signal = sig
		}
		err = x
	}
	c.err = err
	close(c.done)
}

// kill kills the child and its process group. It does nothing once the child has
// been reaped, because its process id may belong to another process by then.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.killed.Store(true)
	killGroup(c.cmd.Process)
}

// wait waits for the child and returns how it ended.
func (c *child) wait() error {
	<-c.done
	if c.stop != nil {
		c.stop()
	}
	return c.err
}

// close kills the child and waits for it.
func (c *child) close() {
	c.kill()
	_ = c.wait()
}

// output runs a program and returns what it printed.
func output(ctx context.Context, path string, args ...string) ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c, err := start(ctx, baseName(path), path, args, nil, w)
	_ = w.Close()
	if err != nil {
		return nil, err
	}
	// A grandchild could hold the other end of the pipe.
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })()
	// ffprobe prints far less, but a hostile file must not fill the memory.
	out, readErr := io.ReadAll(io.LimitReader(r, 64<<20))
	if readErr != nil || len(out) == 64<<20 {
		c.kill()
	}
	err = c.wait()
	if ctxErr := ctx.Err(); ctxErr != nil {
		return nil, ctxErr
	}
	if err == nil {
		err = readErr
	}
	return out, err
}

func baseName(path string) string {
	name := path[strings.LastIndexAny(path, `/\`)+1:]
	return strings.TrimSuffix(name, ".exe")
}

// running holds the process ids of the children that are alive.
var running pidSet

type pidSet struct {
	mu   sync.Mutex
	pids map[int]struct{}
}

func (s *pidSet) add(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pids == nil {
		s.pids = map[int]struct{}{}
	}
	s.pids[pid] = struct{}{}
}

func (s *pidSet) remove(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pids, pid)
}

// Pids returns the sorted process ids of all running children of this package,
// so that their memory can be counted with ours.
func Pids() []int {
	running.mu.Lock()
	defer running.mu.Unlock()
	out := make([]int, 0, len(running.pids))
	for pid := range running.pids {
		out = append(out, pid)
	}
	slices.Sort(out)
	return out
}

// tail keeps the last lines written to it, in bounded memory.
type tail struct {
	mu   sync.Mutex
	ring []string
	part []byte // the line that has no end yet
}

const (
	tailLines = 20
	tailWidth = 500
)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		// ffmpeg ends its progress lines with \r.
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			t.part = append(t.part, p[:min(len(p), max(0, tailWidth-len(t.part)))]...)
			break
		}
		t.part = append(t.part, p[:min(i, max(0, tailWidth-len(t.part)))]...)
		t.flush()
		p = p[i+1:]
	}
	return n, nil
}

func (t *tail) flush() {
	if line := strings.TrimSpace(strings.ToValidUTF8(string(t.part), "?")); line != "" {
		// A broken file can print one line for each of its frames.
		if len(t.ring) == 0 || t.ring[len(t.ring)-1] != line {
			if len(t.ring) == tailLines {
				t.ring = slices.Delete(t.ring, 0, 1)
			}
			t.ring = append(t.ring, line)
		}
	}
	t.part = t.part[:0]
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.part) > 0 {
		t.flush()
	}
	return slices.Clone(t.ring)
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
