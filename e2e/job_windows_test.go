package e2e_test

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// ownGroup starts a command in a process group of its own: a console event for it
// reaches nobody else.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// terminate asks a daemon to end, and returns how it did. Without a console, as under
// Wine without a display, it is killed instead, which is no error, and its children have
// to end with it.
func (d *daemon) terminate() error {
	if windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(d.cmd.Process.Pid)) == nil {
		<-d.done
		return d.err
	}
	d.signal(syscall.SIGKILL)
	waitUntil(d.t, func() bool { return len(children(d.mark)) == 0 })
	return nil
}
