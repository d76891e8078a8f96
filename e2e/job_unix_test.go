//go:build unix

package e2e_test

import (
	"os/exec"
	"syscall"
)

// ownGroup starts a command in a process group of its own: a signal to it reaches
// nobody else.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks a daemon to end, and returns how it did.
func (d *daemon) terminate() error {
	d.signal(syscall.SIGTERM)
	return d.err
}
