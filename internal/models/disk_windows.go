package models

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// isFull reports whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// tryLock locks an open file, or reports that another process holds the lock.
func tryLock(f *os.File) (taken bool, err error) {
	var at windows.Overlapped
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

// removeLocked lets a locked file go and removes it.
func removeLocked(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name()) // fails while another process waits for it
}

func syncDir(string) {}
