package models

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// partial is a file that is written beside its final path, so that a later run can resume
// it. A state file describes what is written.
type partial struct {
	path        string // of the complete file
	part, state string
	folder      string // how the user can choose another folder: an imperative
	full        string // the hint for a full disk
}

// fault returns the error for a failed write.
func (p *partial) fault(err error) error {
	hint := disk.Hint(err, "check the permissions of the folder, or "+p.folder)
	if disk.IsFull(err) {
		hint = p.full
	}
	return fault.Output.Wrap("write "+p.path, fault.WithoutPath(err), hint)
}

// discard removes what is written.
func (p *partial) discard() {
	_ = os.Remove(p.part)
	_ = os.Remove(p.state)
}

// lock makes the folder and waits until no other process writes the file.
func (p *partial) lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return nil, p.fault(err)
	}
	lock, err := disk.WaitLock(ctx, p.path+".lock", waiting)
	if err != nil {
		return nil, p.fault(err)
	}
	return func() { _ = lock.Remove() }, nil
}

// commit gives the complete file its final path.
func (p *partial) commit() error {
	if err := disk.Rename(p.part, p.path); err != nil {
		return p.fault(err)
	}
	_ = disk.SyncDir(filepath.Dir(p.path)) // some file systems cannot
	_ = os.Remove(p.state)                 // it is meaningless without the part file
	return nil
}

// enough returns an error if free (nil for disk.Free) reports less than need bytes in dir,
// for writing subject. If the free space is unknown, it returns nil. in says where in the
// message: "" or a text that begins with a space.
func enough(free func(dir string) (int64, error), dir string, need int64, subject, in, hint string) error {
	if free == nil {
		free = disk.Free
	}
	n, err := free(dir)
	if err != nil || n >= need {
		return nil
	}
	return fault.Output.New("write "+subject, fmt.Sprintf("%s are free%s, but %s are needed", memory.Size(max(n, 0)), in, memory.Size(need)), hint)
}
