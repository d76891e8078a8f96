package journal

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// isFull reports whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// isTooLarge reports whether a write failed at a limit for the size of files.
func isTooLarge(err error) bool { return errors.Is(err, windows.ERROR_FILE_TOO_LARGE) }

// tryLock locks an open file, or reports that it is already locked. Closing the file or
// the end of the process releases the lock.
func tryLock(f *os.File) (taken bool, err error) {
	// Locked bytes cannot be read by others. This one is far behind the number
	// of the process, which is there to be read.
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

// removeLocked lets a locked file go and removes it: what is open cannot be
// removed here. Where somebody opened it in between, it stays and is theirs.
func removeLocked(f *os.File) error {
	_ = f.Close()
	_ = os.Remove(f.Name())
	return nil
}

// syncDir does nothing: folders cannot be synced here, names are journaled.
func syncDir(string) error { return nil }
