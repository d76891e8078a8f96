package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

const (
	// stopping is how long a process may take to end after the signal.
	stopping = 10 * time.Second
	maxLine  = 8 << 20 // bytes of an answer
	maxTail  = 4 << 10 // bytes kept of what a process logs
)

// failure is a problem that a process reported, or its end without an answer.
type failure struct{ *queue.Problem }

func (f failure) Error() string { return f.Message }

// ask runs a process for a request and calls f with its answers. An error in an
// answer is returned instead. When ctx ends, the process is told to end; it has
// ended when ask returns.
func (w *Worker) ask(ctx context.Context, r request, f func(answer)) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fault.Internal.Wrap("start a task", err)
	}
	cmd := exec.CommandContext(ctx, w.o.Command[0], w.o.Command[1:]...)
	cmd.Env = append(os.Environ(), "LIPSTREAM_JOBS_DIR="+w.journals)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = w.stopping
	var log tail
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		return fault.Internal.Wrap("start a task", err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = start(cmd)
	}
	if err != nil {
		_ = in.Close()
		return fault.Internal.Wrap("start a task "+w.o.Command[0], err)
	}
	defer func() { _ = in.Close() }()
	_, writeErr := in.Write(append(line, '\n'))
	var told *queue.Problem
	said := false
	for lines := newLines(out); lines.Scan(); {
		var a answer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue
		}
		if a.Error != nil {
			told = a.Error
			continue
		}
		said = said || a.Result != nil || a.Estimate != nil || a.Parts != nil || a.Machine != nil
		f(a)
	}
	err = errors.Join(cmd.Wait(), writeErr)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case told != nil:
		return failure{told}
	case said:
		return nil
	}
	message := "the process of the task ended without an answer"
	if err != nil {
		message = fmt.Sprintf("the process of the task ended: %v", err)
	}
	if last := log.last(); last != "" {
		message += ": " + last
	}
	return failure{&queue.Problem{Message: message, ExitCode: int(fault.Internal), Hint: "look at the log of the worker"}}
}

func newLines(r interface{ Read([]byte) (int, error) }) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	return s
}

// tail keeps the end of a log.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-maxTail):]
	return len(p), nil
}

// last returns the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.b), []byte("\n"))
	return strings.TrimSpace(string(lines[len(lines)-1]))
}
