package models

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// FreeSpace returns how many bytes this user can still write to the disk of path.
func FreeSpace(path string) (int64, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return 0, err
	}
	return int64(min(u.Free, 1<<62)), nil
}

// enough returns an error if free reports less than need bytes in dir, for writing
// subject. If the free space is unknown, it returns nil. in says where in the message:
// "" or a text that begins with a space.
func enough(free func(dir string) (int64, error), dir string, need int64, subject, in, hint string) error {
	n, err := free(dir)
	if err != nil || n >= need {
		return nil
	}
	return fault.Output.New("write "+subject, fmt.Sprintf("%s are free%s, but %s are needed", memory.Size(max(n, 0)), in, memory.Size(need)), hint)
}

// lockInterval is the time between two attempts to take a lock.
const lockInterval = 100 * time.Millisecond

// lock locks the file at path, and returns the function that unlocks it. If another
// process holds the lock, it calls waiting once and waits. The system unlocks the file
// when the process dies.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		for {
			taken, err := tryLock(f)
			if err != nil {
				_ = f.Close()
				return nil, err
			}
			if !taken {
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
		// The last owner may have removed the file: then its lock is worthless.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return func() { removeLocked(f) }, nil
		}
		_ = f.Close()
	}
}
