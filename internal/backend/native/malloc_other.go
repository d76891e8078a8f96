//go:build !linux

package native

// ReturnLargeBlocks does nothing here: only glibc needs it.
func ReturnLargeBlocks() {}

// ReturnFree makes the C library give back what it keeps; others than glibc do
// so by themselves.
func ReturnFree() {}
