package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
)

// Grace is how long a program that is interrupted may take to end what it
// started and to remove its files.
const Grace = 20 * time.Second

// Job is the result of RunJob.
type Job struct {
	End      lipstream.Event // its last event: done or error
	ExitCode int             // -1 after a signal, and for a program that could not be started
	Elapsed  time.Duration
	CPU      time.Duration // of the process and of those that it waited for

	frames time.Duration // length of the phase of the frames
	memory []int64       // bytes at each progress event: 4 a second
}

// RunJob runs cmd, a lipstream run --json, to its end. It calls each with every
// event. If the job fails, the error has the kind that the job reported.
func RunJob(ctx context.Context, cmd *exec.Cmd, each func(lipstream.Event)) (*Job, error) {
	j, began := &Job{ExitCode: -1}, time.Now()
	p, out, err := child.StartReader(ctx, cmd, Grace)
	if err != nil {
		return j, fault.Internal.Wrap("run "+cmd.Path, err)
	}
	defer func() { _ = out.Close() }()
	readErr := j.read(out, each)
	err = p.Wait()
	j.Elapsed = time.Since(began)
	j.ExitCode, j.CPU = p.State().ExitCode(), p.State().UserTime()+p.State().SystemTime()
	switch {
	case ctx.Err() != nil:
		return j, fault.Cancelled.Wrap("measure", ctx.Err())
	case err != nil && j.End.Type == lipstream.EventError:
		return j, fault.Kind(j.End.ExitCode).New("measure", j.End.Message, j.End.Hint)
	case err != nil:
		if lines := p.Stderr(); len(lines) > 1 {
			err = fmt.Errorf("%w (%s)", err, strings.Join(lines[:len(lines)-1], "; "))
		}
		return j, fault.Internal.Wrap("run the job", err)
	case readErr != nil:
		return j, fault.Internal.Wrap("read the events of "+cmd.Path, readErr)
	case j.End.Type != lipstream.EventDone:
		return j, fault.Internal.New("run "+cmd.Path, "it ended well without an event that says so")
	}
	return j, nil
}

// read reads the events, one a line, to the end.
func (j *Job) read(r io.Reader, each func(lipstream.Event)) error {
	var began time.Duration // the phase of the frames
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e lipstream.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			// Read on: a process whose pipe is full does not end.
			_, _ = io.Copy(io.Discard, r)
			return fmt.Errorf("%q is not an event: %w", s.Text(), err)
		}
		switch e.Type {
		case lipstream.EventPhase:
			switch e.Phase {
			case lipstream.PhaseFrames:
				began = e.Elapsed
			case lipstream.PhaseFinish:
				j.frames = e.Elapsed - began
			}
		case lipstream.EventProgress:
			j.memory = append(j.memory, e.MemoryNow)
		case lipstream.EventDone, lipstream.EventError:
			j.End = e
		}
		each(e)
	}
	return s.Err()
}
