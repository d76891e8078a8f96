//go:build linux || darwin || freebsd

package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// isFull reports whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// isTooLarge reports whether a write failed at a limit for the size of files.
func isTooLarge(err error) bool { return errors.Is(err, unix.EFBIG) }

// tryLock locks an open file, or reports that it is already locked. Closing the file or
// the end of the process releases the lock.
func tryLock(f *os.File) (taken bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return true, nil
	}
	return false, err
}

// removeLocked removes a locked file and unlocks it, in this order, so that nobody locks a
// file that is about to be removed.
func removeLocked(f *os.File) error {
	err := os.Remove(f.Name())
	_ = f.Close()
	return err
}

// syncDir syncs the names in a folder to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	_ = f.Close()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // this file system does not support it
	}
	return err
}
