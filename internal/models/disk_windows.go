package models

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// freeSpace is how many bytes a user can still write in a folder.
func freeSpace(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(min(free, 1<<62)), nil
}

// isFull tells whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// lockInterval is how often a taken lock is tried again.
const lockInterval = 100 * time.Millisecond

// lock takes the lock that the file at path stands for, and gives what lets it
// go. While another process has it, it waits; waiting is called once. The
// system lets it go when the process dies.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		var at windows.Overlapped
		err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
		if err == nil {
			return func() {
				_ = f.Close()
				_ = os.Remove(path) // fails while another process waits for it
			}, nil
		}
		if !errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			_ = f.Close()
			return nil, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(lockInterval):
		}
	}
}

func syncDir(string) {}
