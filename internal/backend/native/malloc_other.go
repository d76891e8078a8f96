//go:build !linux

package native

// ReturnLargeBlocks does nothing here: only glibc needs it.
func ReturnLargeBlocks() {}
