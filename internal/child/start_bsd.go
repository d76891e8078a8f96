//go:build unix && !linux

package child

import (
	"os/exec"
	"syscall"
)

func start(cmd *exec.Cmd) (group, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Start()
	return group{cmd.Process}, err
}
