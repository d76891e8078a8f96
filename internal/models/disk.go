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

// FreeSpace is how many bytes this user may still write to the disk of path.
func FreeSpace(path string) (int64, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return 0, err
	}
	return int64(min(u.Free, 1<<62)), nil
}

// enough refuses to write need bytes for subject where free tells of less in
// dir. A disk that does not tell is given a try. in is for the message: "" or
// where the space is missing, with a blank before it.
func enough(free func(dir string) (int64, error), dir string, need int64, subject, in, hint string) error {
	n, err := free(dir)
	if err != nil || n >= need {
		return nil
	}
	return fault.Output.New("write "+subject, fmt.Sprintf("%s are free%s, %s are needed", memory.Size(max(n, 0)), in, memory.Size(need)), hint)
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
		// Who had it may have removed the file: then it locks nothing any more.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return func() { removeLocked(f) }, nil
		}
		_ = f.Close()
	}
}
