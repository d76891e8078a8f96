// Package child runs other programs. A Ctrl-C on the terminal reaches only this
// program. Each is killed with all that it started when its context ends. On Linux it
// also dies when this program is killed, on Windows with all that it started. The last
// lines that it prints on its standard error are kept.
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
	if e.Code > 255 { // of Windows, such as 0xc0000005 for an access violation
		return fmt.Sprintf("%s failed with exit code %#x", e.Program, e.Code)
	}
	return fmt.Sprintf("%s failed with exit code %d", e.Program, e.Code)
}

// Process is a running program. Its methods may be called from several
// goroutines.
type Process struct {
	cmd     *exec.Cmd
	group   group
	in      *os.File // its standard input, or nil
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
// is killed with all that it started. A grace of 0 kills at once. Windows has no
// interrupts: it kills at once too, except what StartPipes started.
func Start(ctx context.Context, cmd *exec.Cmd, grace time.Duration) (*Process, error) {
	return launch(ctx, cmd, grace, nil)
}

func launch(ctx context.Context, cmd *exec.Cmd, grace time.Duration, in *os.File) (*Process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p := &Process{cmd: cmd, in: in, done: make(chan struct{}), ctx: ctx}
	cmd.Stderr, cmd.WaitDelay = &p.stderr, stderrDelay
	var err error
	if p.group, err = start(cmd); err != nil {
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
	return startReader(ctx, cmd, grace, nil)
}

func startReader(ctx context.Context, cmd *exec.Cmd, grace time.Duration, in *os.File) (*Process, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = w
	p, err := launch(ctx, cmd, grace, in)
	_ = w.Close() // the process has its own
	if err != nil {
		_ = r.Close()
		return nil, nil, err
	}
	return p, r, nil
}

// StartPipes is StartReader with the standard input coming from in, for a program that
// ends when its input does: to interrupt it, in is closed as well. The caller closes
// in, at the latest after the end of the process.
func StartPipes(ctx context.Context, cmd *exec.Cmd, grace time.Duration) (p *Process, in, out *os.File, err error) {
	r, in, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd.Stdin = r
	p, out, err = startReader(ctx, cmd, grace, in)
	_ = r.Close()
	if err != nil {
		_ = in.Close()
		return nil, nil, nil, err
	}
	return p, in, out, nil
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
	p.group.close()
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

// Stop interrupts the process, and kills it if it still runs after grace; see Start. It
// returns when the process has ended or was killed.
func (p *Process) Stop(grace time.Duration) {
	if grace > 0 && p.interrupt() {
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	p.Kill()
}

// interrupt reports whether the process will know that it has to end.
func (p *Process) interrupt() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return false
	}
	if p.in != nil {
		_ = p.in.Close()
	}
	return p.group.interrupt() || p.in != nil
}

// Kill ends the process at once, with all that it started. After its end it does
// nothing: its number may belong to another one by then.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.group.kill()
	}
}
