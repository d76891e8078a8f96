package models

import (
	"context"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
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
	hint := "check the permissions of the folder, or " + p.folder
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
	if err := os.Rename(p.part, p.path); err != nil {
		return p.fault(err)
	}
	_ = disk.SyncDir(filepath.Dir(p.path)) // some file systems cannot
	_ = os.Remove(p.state)                 // it is meaningless without the part file
	return nil
}
