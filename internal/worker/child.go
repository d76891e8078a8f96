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
)

const (
	// stopGrace is how long a process may take to end after the interrupt.
	stopGrace = 10 * time.Second
	maxLine   = 8 << 20 // bytes of an answer
)

// ask runs a process for a request, calls f with its events and frames, and returns
// its last answer. f may be nil if there are none. An error in an answer is returned as
// an error. When ctx ends, the process is interrupted; it has ended when ask returns.
func (w *Worker) ask(ctx context.Context, r request, f func(answer)) (last answer, err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return last, fault.Internal.Wrap("start a task", err)
	}
	cmd := exec.Command(w.o.Command[0], w.o.Command[1:]...)
	cmd.Env = append(os.Environ(), "LIPSTREAM_JOBS_DIR="+w.journals)
	// The process also sees the end of its input when this one dies.
	p, in, out, err := child.StartPipes(ctx, cmd, w.stopGrace)
	if err != nil {
		if ctx.Err() != nil {
			return last, context.Cause(ctx)
		}
		return last, fault.Internal.Wrap("start a task "+w.o.Command[0], err)
	}
	defer func() { _ = in.Close() }()
	lowerPriority(p.PID())
	_, writeErr := in.Write(append(line, '\n'))
	answered := false
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var a answer
		switch {
		case json.Unmarshal(lines.Bytes(), &a) != nil:
		case a.Event != nil || a.Frame != nil:
			f(a)
		case a.Error != nil || a.Result != nil || a.Estimate != nil || a.Parts != nil || a.Machine != nil:
			last, answered = a, true
		}
	}
	_ = out.Close()
	err = errors.Join(p.Wait(), writeErr)
	switch e := last.Error; {
	case ctx.Err() != nil:
		return last, context.Cause(ctx)
	case e != nil:
		return last, &fault.Error{Kind: fault.Kind(e.ExitCode), Err: errors.New(e.Message), Hint: e.Hint}
	case answered:
		return last, nil
	}
	message := "the process of the task ended without an answer"
	if err != nil {
		message = fmt.Sprintf("the process of the task ended: %v", err)
	} else if log := p.Stderr(); len(log) > 0 {
		message += ": " + log[len(log)-1]
	}
	return last, fault.Internal.New("", message, "look at the log of the worker")
}
