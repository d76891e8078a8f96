//go:build unix && !linux

package media

import (
	"os"
	"os/exec"
	"syscall"
)

func startCommand(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}

func enlarge(*os.File) {}
