package media

import (
	"os"

	"golang.org/x/sys/unix"
)

// enlarge sets the buffer of a pipe to pipeSize. It is an optimisation: if the
// user's limit for pipes is reached, the pipe stays as it is.
func enlarge(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}
