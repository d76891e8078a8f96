package worker

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner is a thread that lives as long as the process: the death signal is
// sent when the thread that started a child ends (see internal/media).
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// niceness is the priority of tasks. They use the whole machine, and a server on it
// must still answer quickly.
const niceness = 10

// start starts a child in its own process group. It dies with this process.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error, 1)
	spawner() <- func() { result <- cmd.Start() }
	err := <-result
	if err == nil {
		_ = unix.Setpriority(unix.PRIO_PGRP, cmd.Process.Pid, niceness) // not essential
	}
	return err
}
