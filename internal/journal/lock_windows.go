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
	// Other processes cannot read locked bytes. This one is far after the process ID,
	// which they must be able to read.
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

// removeLocked unlocks a locked file and removes it, because open files cannot be removed on
// this system. If another process has opened it meanwhile, it stays.
func removeLocked(f *os.File) error {
	_ = f.Close()
	_ = os.Remove(f.Name())
	return nil
}

// syncDir does nothing: folders cannot be synced on this system.
func syncDir(string) error { return nil }
