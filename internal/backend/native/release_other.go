//go:build !linux

package native

// ReleaseFile does nothing on this system, which drops clean pages when it needs
// memory.
func ReleaseFile(string) {}
