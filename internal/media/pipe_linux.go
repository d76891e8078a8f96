package media

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is the size of a pipe's buffer. The default of 64 KiB would cause sixteen
// times as many context switches.
const pipeSize = 1 << 20

// enlarge sets the buffer of a pipe to pipeSize. It is an optimisation: if the
// user's limit for pipes is reached, the pipe stays as it is.
func enlarge(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}
