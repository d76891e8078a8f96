//go:build unix

package bench

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup keeps the terminal's Ctrl-C from reaching the process beside ours:
// a second interrupt would kill it before it has cleaned up.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// interrupt asks the process to end.
func interrupt(p *os.Process) error { return p.Signal(os.Interrupt) }
