//go:build linux || darwin || freebsd

package models

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// freeSpace is how many bytes a user can still write in a folder.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil // types differ between systems
}

// isFull tells whether a write failed because there was no space.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// lockInterval is how often a taken lock is tried again.
const lockInterval = 100 * time.Millisecond

// lock takes the lock that the file at path stands for, and gives what lets it
// go. While another process has it, it waits; waiting is called once. The
// system lets it go when the process dies.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		for {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
				break
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
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		// Who had it may have removed the file: then it locks nothing any more.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return func() {
				_ = os.Remove(path)
				_ = f.Close()
			}, nil
		}
		_ = f.Close()
	}
}

// syncDir makes a rename in a folder last.
func syncDir(dir string) {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync() // some file systems cannot; then there is nothing to do
		_ = f.Close()
	}
}
