package native

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stackT is stack_t of sigaltstack(2), which is the same on all 64-bit Linux systems.
type stackT struct {
	sp    uintptr
	flags int32
	_     int32
	size  uintptr
}

// KeepSignalStack runs f, C code that may replace the thread's alternate signal stack,
// and restores the stack afterwards.
//
// OpenVINO's CPU plugin replaces it: it installs its own stack when it is constructed
// and unmaps it when it is destroyed, which may happen on another thread. The first
// thread then has a stack that does not exist any more, and the next signal to it (Go's
// scheduler sends many) kills the process silently. With the stack restored, the
// plugin's destructor finds that its own is not in use and only unmaps it.
//
// Signals to the thread are blocked meanwhile, because the plugin's stack is smaller
// than Go's handlers need.
func KeepSignalStack(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	// Faults must still kill the process, and the C library uses 32 and 33 itself.
	for _, s := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, 32, 33} {
		all.Val[0] &^= 1 << (s - 1)
	}
	if unix.PthreadSigmask(unix.SIG_BLOCK, &all, &old) == nil {
		// This only fails for an invalid argument.
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	}

	var before, after stackT
	if sigaltstack(nil, &before) {
		defer func() {
			if sigaltstack(nil, &after) && after != before {
				sigaltstack(&before, nil)
			}
		}()
	}
	f()
}

// sigaltstack makes the system call without the C library.
//
// int sigaltstack(const stack_t* ss, stack_t* old_ss);
func sigaltstack(ss, old *stackT) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(ss)), uintptr(unsafe.Pointer(old)), 0)
	return errno == 0
}
