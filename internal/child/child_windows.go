package child

import (
	"os"
	"os/exec"
	"syscall"
)

func start(cmd *exec.Cmd) error {
	// A group of its own, so that Ctrl-C does not reach it before us.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
	return cmd.Start()
}

// interrupt ends the process: an interrupt cannot be sent to another console
// group from here.
func interrupt(p *os.Process) { _ = p.Kill() }

func killGroup(p *os.Process) { _ = p.Kill() }

func exitSignal(*os.ProcessState) syscall.Signal { return 0 }
