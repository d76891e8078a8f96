package store

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// Own creates a folder if necessary and locks it for this process, until the lock is
// released or the process ends.
func Own(dir string) (*disk.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Output.Wrap("make the folder "+dir, fault.WithoutPath(err), "choose another folder with `data`")
	}
	lock, err := disk.TryLock(filepath.Join(dir, "lock"))
	if errors.Is(err, disk.ErrLocked) {
		return nil, fault.Output.New("use the folder "+dir, "another lipstream uses it", "end that one, or choose another folder with `data`")
	}
	return lock, fault.Output.Wrap("use the folder "+dir, fault.WithoutPath(err), "choose another folder with `data`")
}
