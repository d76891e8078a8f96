//go:build !windows

package disk

import "os"

// IsBusy returns false: on this system open files can be replaced and removed.
func IsBusy(error) bool { return false }

// Retry calls f.
func Retry(f func() error) error { return f() }

// Replaceable returns nil: on this system an open file can be replaced.
func Replaceable(string) error { return nil }

func rename(from, to string) error { return os.Rename(from, to) }
