//go:build !windows

// Package disktest helps tests of files.
package disktest

// ReplacesOpenFiles reports whether the system can replace a file that is open. Wine cannot.
func ReplacesOpenFiles() bool { return true }
