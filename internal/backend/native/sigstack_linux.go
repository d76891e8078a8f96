package native

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stackT is stack_t of sigaltstack(2), alike on all 64-bit Linux systems.
type stackT struct {
	sp    uintptr
	flags int32
	_     int32
	size  uintptr
}

// KeepSignalStack runs f, C code that may exchange the thread's alternate
// signal stack, and puts the stack back afterwards.
//
// OpenVINO's CPU plugin does that: it installs a stack of its own where it is
// constructed and unmaps it where it is destroyed, on another thread of a Go
// program as likely as not. The first thread is left with a stack that is no
// longer there, and the next signal to it (Go's scheduler sends them all the
// time) kills the process without a word. With the stack put back, the
// plugin's destructor sees that its own is not in use and only unmaps it.
//
// No signal is let through to the thread meanwhile: the foreign stack is
// smaller than what Go's handlers are made for.
func KeepSignalStack(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	// Faults must keep killing the process properly, and the C library needs
	// 32 and 33 for itself.
	for _, s := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, 32, 33} {
		all.Val[0] &^= 1 << (s - 1)
	}
	if unix.PthreadSigmask(unix.SIG_BLOCK, &all, &old) == nil {
		// It fails only for a bad argument.
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

// sigaltstack is the system call, past the C library.
//
// int sigaltstack(const stack_t* ss, stack_t* old_ss);
func sigaltstack(ss, old *stackT) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(ss)), uintptr(unsafe.Pointer(old)), 0)
	return errno == 0
}
