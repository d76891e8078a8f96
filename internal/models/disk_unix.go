//go:build linux || darwin || freebsd

package models

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// isFull reports whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// tryLock locks an open file, or reports that another process holds the lock.
func tryLock(f *os.File) (taken bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return true, nil
	}
	return false, err
}

// removeLocked removes a locked file and unlocks it.
func removeLocked(f *os.File) {
	_ = os.Remove(f.Name())
	_ = f.Close()
}

// syncDir syncs a rename in a folder to the disk.
func syncDir(dir string) {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync() // some file systems cannot
		_ = f.Close()
	}
}
