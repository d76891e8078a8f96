//go:build unix

package child

import (
	"os"
	"syscall"
)

// group is a process that leads a process group of its own.
type group struct{ process *os.Process }

// interrupt sends the signal of Ctrl-C and reports whether it could.
func (g group) interrupt() bool { return g.process.Signal(os.Interrupt) == nil }

func (g group) kill() { _ = syscall.Kill(-g.process.Pid, syscall.SIGKILL) }

func (g group) close() {}

// exitSignal returns the signal that ended the process, or 0.
func exitSignal(st *os.ProcessState) syscall.Signal {
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal()
	}
	return 0
}
