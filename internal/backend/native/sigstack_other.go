//go:build !linux

package native

// KeepSignalStack runs f. Only on Linux does C code of ours exchange the
// signal stack.
func KeepSignalStack(f func()) { f() }
