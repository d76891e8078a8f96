package media

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner is a thread that lives as long as the process and starts every
// child. The death signal below is sent when the *thread* that started the
// child ends, not the process, and Go ends a thread whenever a goroutine
// returns that was locked to it; from an ordinary goroutine a child could so
// be killed by an unrelated part of the program.
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
	// Pdeathsig: when we are killed with -9, ffmpeg dies with us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error, 1)
	spawner() <- func() { result <- cmd.Start() }
	return <-result
}

// enlarge gives a pipe a buffer of 1 MiB. It is only speed: where the user's
// pipe allowance is used up, the pipe stays as it is.
func enlarge(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}
