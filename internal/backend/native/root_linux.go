package native

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// InRoot runs f on a separate thread whose current directory is /, and reports whether
// it could. The directory of the rest of the process does not change.
func InRoot(f func()) bool {
	done := make(chan bool)
	go func() {
		// Never unlocked, so that the thread ends with the goroutine and is not used
		// again with the wrong directory.
		runtime.LockOSThread()
		ok := unix.Unshare(unix.CLONE_FS) == nil && unix.Chdir("/") == nil
		if ok {
			f()
		}
		done <- ok
	}()
	return <-done
}
