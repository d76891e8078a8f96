package child

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// spawner is a thread that lives as long as this program and starts every
// process. The system sends the death signal below when the *thread* that
// started the process ends, and Go ends a thread when a goroutine returns that
// was locked to it. From any other goroutine, an unrelated part of the program
// could so kill a process.
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

func start(cmd *exec.Cmd) (group, error) {
	// Pdeathsig: when this program is killed with -9, the process dies as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error, 1)
	spawner() <- func() { result <- cmd.Start() }
	err := <-result
	return group{cmd.Process}, err
}
