// Package child runs other programs. Each gets a process group of its own, so
// that a Ctrl-C on the terminal reaches only this program, and is killed with
// all that it started when its context ends. The last lines that it prints on
// its standard error are kept.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ExitError is returned for a program that did not end well.
type ExitError struct {
	Program string         // its name, without folder and ".exe"
	Code    int            // exit code, -1 after a signal
	Signal  syscall.Signal // 0 when it exited by itself
	Stderr  []string       // the last lines that it printed
}

// Error returns how the program ended and the last line that it printed.
func (e *ExitError) Error() string {
	if n := len(e.Stderr); n > 0 {
		return e.End() + ": " + e.Stderr[n-1]
	}
	return e.End()
}

// End returns how the program ended: "ffmpeg failed with exit code 1".
func (e *ExitError) End() string {
	if e.Signal != 0 {
		return fmt.Sprintf("%s was killed by signal %d (%s)", e.Program, int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("%s failed with exit code %d", e.Program, e.Code)
}

// Process is a running program. Its methods may be called from several
// goroutines.
type Process struct {
	cmd     *exec.Cmd
	stderr  tail
	done    chan struct{} // closed when the process has been reaped
	err     error         // how it ended; read after done
	ctx     context.Context
	stopped atomic.Bool // by the end of ctx
	unwatch func() bool // ends the watch on ctx

	mu     sync.Mutex
	reaped bool
}

// stderrDelay is how long a process that has ended waits for what it started
// to close the standard error that they share.
const stderrDelay = 300 * time.Millisecond

// Start starts cmd, which comes from exec.Command. Its Stderr must be unset.
// Stdin and Stdout are best files: a copy that blocks would hold up the end.
//
// When ctx ends, the process is interrupted; if it still runs after grace, it
// is killed with its group. A grace of 0 kills at once.
func Start(ctx context.Context, cmd *exec.Cmd, grace time.Duration) (*Process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p := &Process{cmd: cmd, done: make(chan struct{}), ctx: ctx}
	cmd.Stderr, cmd.WaitDelay = &p.stderr, stderrDelay
	if err := start(cmd); err != nil {
		return nil, err
	}
	go p.reap()
	p.unwatch = context.AfterFunc(ctx, func() {
		p.stopped.Store(true)
		p.Stop(grace)
	})
	return p, nil
}

// StartReader is Start with the standard output coming from the returned pipe,
// which the caller reads to its end, or closes.
func StartReader(ctx context.Context, cmd *exec.Cmd, grace time.Duration) (*Process, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = w
	p, err := Start(ctx, cmd, grace)
	_ = w.Close() // the process has its own
	if err != nil {
		_ = r.Close()
		return nil, nil, err
	}
	return p, r, nil
}

// Output runs cmd to its end and returns what it printed, at most limit bytes;
// more is an error. Errors are those of Start and Wait.
func Output(ctx context.Context, cmd *exec.Cmd, grace time.Duration, limit int64) ([]byte, error) {
	p, r, err := StartReader(ctx, cmd, grace)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// A process that the killed one left behind could hold the other end.
	defer context.AfterFunc(ctx, func() {
		<-p.done
		_ = r.SetReadDeadline(time.Now())
	})()
	out, readErr := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(out)) > limit {
		readErr = fmt.Errorf("it printed more than %d bytes", limit)
	}
	if readErr != nil {
		p.Kill()
	}
	switch err := p.Wait(); {
	case p.stopped.Load():
		return nil, context.Cause(ctx)
	case readErr != nil:
		return nil, readErr
	default:
		return out, err
	}
}

func (p *Process) reap() {
	err := p.cmd.Wait()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	if st := p.cmd.ProcessState; st != nil && !st.Success() {
		name := strings.TrimSuffix(filepath.Base(p.cmd.Path), ".exe")
		err = &ExitError{Program: name, Code: st.ExitCode(), Signal: exitSignal(st), Stderr: p.stderr.lines()}
	} else if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	p.err = err
	close(p.done)
}

// Wait waits until the process has ended. It returns nil if it ended well, the
// cause of ctx if it did not and ctx has ended, and else an *ExitError.
func (p *Process) Wait() error {
	<-p.done
	p.unwatch()
	if p.err != nil && p.stopped.Load() {
		return context.Cause(p.ctx)
	}
	return p.err
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// State returns what the system says of the ended process, after Wait.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// Stderr returns the last lines that the process has printed on its standard
// error.
func (p *Process) Stderr() []string { return p.stderr.lines() }

// Stop interrupts the process, and kills it if it still runs after grace. It
// returns when the process has ended or was killed.
func (p *Process) Stop(grace time.Duration) {
	if grace > 0 {
		p.signal(interrupt)
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	p.Kill()
}

// Kill ends the process at once, with all of its group. After its end it does
// nothing.
func (p *Process) Kill() { p.signal(killGroup) }

// signal calls f unless the process has been reaped: its number may belong to
// another one by then.
func (p *Process) signal(f func(*os.Process)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		f(p.cmd.Process)
	}
}
