package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/queue"
)

const (
	// stopping is how long a process may take to end after the interrupt.
	stopping = 10 * time.Second
	maxLine  = 8 << 20 // bytes of an answer
)

// failure is a problem that a process reported, or its end without an answer.
type failure struct{ *queue.Problem }

func (f failure) Error() string { return f.Message }

// ask runs a process for a request and calls f with its answers. An error in an
// answer is returned instead. When ctx ends, the process is interrupted; it has
// ended when ask returns.
func (w *Worker) ask(ctx context.Context, r request, f func(answer)) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fault.Internal.Wrap("start a task", err)
	}
	cmd := exec.Command(w.o.Command[0], w.o.Command[1:]...)
	cmd.Env = append(os.Environ(), "LIPSTREAM_JOBS_DIR="+w.journals)
	// A process on a system without a death signal sees the end of its input when
	// this one dies.
	theirs, in, err := os.Pipe()
	if err != nil {
		return fault.Internal.Wrap("start a task", err)
	}
	defer func() { _ = in.Close() }()
	cmd.Stdin = theirs
	p, out, err := child.StartReader(ctx, cmd, w.stopping)
	_ = theirs.Close()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fault.Internal.Wrap("start a task "+w.o.Command[0], err)
	}
	lowerPriority(p.PID())
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
	_ = out.Close()
	err = errors.Join(p.Wait(), writeErr)
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
	} else if log := p.Stderr(); len(log) > 0 {
		message += ": " + log[len(log)-1]
	}
	return failure{&queue.Problem{Message: message, ExitCode: int(fault.Internal), Hint: "look at the log of the worker"}}
}

func newLines(r interface{ Read([]byte) (int, error) }) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	return s
}
