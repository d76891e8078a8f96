//go:build !linux

package worker

import "os/exec"

// start starts a child. When we die it sees the end of its standard input.
func start(cmd *exec.Cmd) error { return cmd.Start() }
