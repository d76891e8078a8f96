//go:build !linux

package native

// InRoot returns false without running f: on this system all threads have the same
// directory.
func InRoot(func()) bool { return false }
