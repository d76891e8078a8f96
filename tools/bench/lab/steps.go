package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/lipstream/lipstream/internal/bench"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Memory is the memory of a process in bytes; 0 if the system does not report it.
type Memory struct {
	PeakRSS       int64 `json:"peak_rss_bytes"`
	Anonymous     int64 `json:"rss_anon_bytes"` // after the last step
	AnonymousPeak int64 `json:"peak_rss_anon_bytes"`
}

// WatchMemory begins to measure the memory of this process. Stop may be called more than
// once.
func WatchMemory() (stop func() Memory) {
	runtime.GC()
	// Set VmHWM to what is resident now (proc_pid_clear_refs(5)). If this fails, the peak
	// includes what came before.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	// The kernel does not record the peak of RssAnon, so it is sampled, as measure.py does.
	var m Memory
	end := Sample(50*time.Millisecond, func() { m.AnonymousPeak = max(m.AnonymousPeak, memory.SelfStatus()["RssAnon"]) })
	return func() Memory {
		now := memory.SelfStatus()
		end()
		m.PeakRSS, m.Anonymous = now["VmHWM"], now["RssAnon"]
		return m
	}
}

// Wave returns the values of input k of a network, as openvino_graph.py computes them: for
// the element with index i, cos(0.31 i + 0.2) if k is even and sin(0.31 i + 0.2) if it is
// odd.
func Wave(k int, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.F32, shape...)
	f := math.Cos
	if k%2 == 1 {
		f = math.Sin
	}
	v := t.F32()
	for i := range v {
		v[i] = float32(f(0.31*float64(i) + 0.2))
	}
	return t
}

// Stepper is a program that runs a step for each line of its standard input, so that the
// steps of several programs can alternate. Each line of its output is JSON: its settings,
// the results of each step, and at the end the memory. measure.py describes the same for
// the scripts.
type Stepper struct {
	name    string
	process *child.Process
	in, out *os.File
	lines   *bufio.Scanner
}

// StartStepper starts a program and decodes its settings.
func StartStepper(ctx context.Context, cmd *exec.Cmd, settings any) (*Stepper, error) {
	in, w, err := os.Pipe()
	if err != nil {
		return nil, fault.Internal.Wrap("run "+cmd.Path, err)
	}
	cmd.Stdin = in
	process, out, err := child.StartReader(ctx, cmd, bench.Grace)
	_ = in.Close() // the process has its own
	if err != nil {
		_ = w.Close()
		return nil, fault.Missing.Wrap("run "+cmd.Path, err, "make the Python environment with tools/peers/setup.sh")
	}
	s := &Stepper{cmd.Path, process, w, out, bufio.NewScanner(out)}
	if err := s.read(settings); err != nil {
		return nil, err
	}
	return s, nil
}

// Step runs a step and decodes its results.
func (s *Stepper) Step(results any) error {
	if _, err := s.in.WriteString("\n"); err != nil {
		return s.fail(err)
	}
	return s.read(results)
}

// Close ends the program and returns its memory.
func (s *Stepper) Close() (m Memory, err error) {
	_ = s.in.Close()
	if err := s.read(&m); err != nil {
		return m, err
	}
	return m, errors.Join(fault.Internal.Wrap("run "+s.name, s.process.Wait()), s.out.Close())
}

func (s *Stepper) read(v any) error {
	if !s.lines.Scan() {
		return s.fail(s.lines.Err())
	}
	if err := json.Unmarshal(s.lines.Bytes(), v); err != nil {
		return s.fail(fmt.Errorf("%q: %w", s.lines.Text(), err))
	}
	return nil
}

// fail ends a program that did not answer. Why it ended says more than err.
func (s *Stepper) fail(err error) error {
	_, _ = s.in.Close(), s.out.Close()
	if err != nil {
		s.process.Kill()
	}
	if ended := s.process.Wait(); ended != nil {
		err = ended
	}
	if err == nil {
		err = errors.New("it ended without a result")
	}
	return fault.Missing.Wrap("run "+s.name, err, "make the Python environment of a peer with tools/peers/setup.sh PATH and set `peers` to PATH/bin/python")
}

// Serve is the other side of a Stepper. load returns the settings and a function that runs
// one step and returns its results.
func Serve(in io.Reader, out io.Writer, load func() (settings any, step func() (any, error), err error)) error {
	stop := WatchMemory()
	defer stop()
	say := json.NewEncoder(out)
	settings, step, err := load()
	if err == nil {
		err = say.Encode(settings)
	}
	lines := bufio.NewScanner(in)
	for err == nil && lines.Scan() {
		var results any
		if results, err = step(); err == nil {
			err = say.Encode(results)
		}
	}
	if err = errors.Join(err, lines.Err()); err != nil {
		return err
	}
	return say.Encode(stop())
}
