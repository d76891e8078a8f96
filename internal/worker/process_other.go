//go:build !linux

package worker

import "os/exec"

// start starts a child. It sees the end of its input when this process dies.
func start(cmd *exec.Cmd) error { return cmd.Start() }
