package media

import (
	"os"
	"os/exec"
	"syscall"
)

func startCommand(cmd *exec.Cmd) error {
	// A group of its own, so that Ctrl-C does not reach it before us.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
	return cmd.Start()
}

func enlarge(*os.File) {}

func killGroup(p *os.Process) { _ = p.Kill() }

func exitSignal(*os.ProcessState) (syscall.Signal, bool) { return 0, false }

// fileSizeSignal never occurs on Windows.
const fileSizeSignal = syscall.Signal(-1)

func syncDir(string) {}
