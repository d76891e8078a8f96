//go:build linux || darwin || freebsd

package models

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// isFull tells whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// tryLock locks an open file, or tells that another process has it.
func tryLock(f *os.File) (taken bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return true, nil
	}
	return false, err
}

// removeLocked removes a locked file and lets it go.
func removeLocked(f *os.File) {
	_ = os.Remove(f.Name())
	_ = f.Close()
}

// syncDir makes a rename in a folder last.
func syncDir(dir string) {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync() // some file systems cannot; then there is nothing to do
		_ = f.Close()
	}
}
