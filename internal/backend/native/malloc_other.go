//go:build !linux

package native

// ReturnLargeBlocks does nothing on this system: only glibc needs it.
func ReturnLargeBlocks() {}

// ReturnFree does nothing on this system: only glibc needs it.
func ReturnFree() {}
