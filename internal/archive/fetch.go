package archive

import (
	"context"
	"net/url"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/download"
	"github.com/lipstream/lipstream/internal/fault"
)

// Fetch downloads the archive, a file called name, into dir and returns its path. What it
// has received stays in the folder of the installations if it is interrupted, and is
// resumed the next time. Install checks the file.
func (a Archive) Fetch(ctx context.Context, at *url.URL, name, dir string, progress Progress) (path string, err error) {
	parent, err := Root()
	if err != nil {
		return "", err
	}
	part := filepath.Join(parent, ".download-"+a.SHA256[:16])
	lock, err := disk.WaitLock(ctx, part+".lock", func() { progress.Say("waiting for another process that is downloading " + a.Project) })
	if err != nil {
		return "", fault.Output.Wrap("lock "+part, err)
	}
	defer func() { _ = lock.Remove() }()
	f := &download.File{
		URL: at, Name: name, Size: a.Size, Part: part,
		WriteFault: func(err error) error { return fault.Output.Wrap("write "+part, err, "free some disk space") },
		Progress:   progress.Bytes, Notify: progress.Say,
	}
	if err := f.Fetch(ctx); err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	if err = os.MkdirAll(dir, 0o755); err == nil {
		err = disk.Rename(part, path)
	}
	if err != nil {
		return "", fault.Output.Wrap("move "+part, err)
	}
	f.Discard() // the state
	return path, nil
}
