package native

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// InRoot runs f on a thread of its own whose current directory is /, and tells
// whether it could. The directory of the rest of the process stays what it is.
func InRoot(f func()) bool {
	done := make(chan bool)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nobody gets
		// a thread with another directory.
		runtime.LockOSThread()
		ok := unix.Unshare(unix.CLONE_FS) == nil && unix.Chdir("/") == nil
		if ok {
			f()
		}
		done <- ok
	}()
	return <-done
}
