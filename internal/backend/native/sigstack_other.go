//go:build !linux

package native

// KeepSignalStack runs f. Only on Linux does C code replace the signal stack.
func KeepSignalStack(f func()) { f() }
