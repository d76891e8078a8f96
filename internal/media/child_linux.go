package media

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner returns the channel of a thread that starts every child and lives as
// long as the process. The kernel sends the death signal below when the *thread*
// that started the child ends, not the process. Go ends a thread when a goroutine
// that is locked to it returns, so a child started from an ordinary goroutine
// could be killed by an unrelated part of the program.
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

func startCommand(cmd *exec.Cmd) error {
	// Pdeathsig kills ffmpeg even if this process gets SIGKILL.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error, 1)
	spawner() <- func() { result <- cmd.Start() }
	return <-result
}

// enlarge sets the buffer of a pipe to pipeSize. It is an optimisation: if the
// user's limit for pipes is reached, the pipe stays as it is.
func enlarge(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}
