package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// dir is a store in a folder, with one file for each object.
type dir string

// incoming is the folder of incomplete objects. No object has its name.
const incoming = ".incoming"

// newDir opens a store in a folder, which it creates if necessary.
func newDir(root string) (dir, error) {
	root, err := filepath.Abs(root)
	if err == nil {
		err = os.MkdirAll(filepath.Join(root, incoming), 0o700)
	}
	return dir(root), fault.Output.Wrap("make the folder "+root, fault.WithoutPath(err))
}

func (d dir) file(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

func (dir) passing(error) bool { return false }

func (d dir) put(_ context.Context, name string, r io.Reader) error {
	path := d.file(name)
	f, err := disk.CreateIn(d.file(incoming), path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return f.Commit(0o600)
}

func (d dir) open(_ context.Context, name string) (io.ReadCloser, Info, error) {
	// Not os.Open: on Windows nobody could remove the object meanwhile.
	path := d.file(name) // whose folder may be a link to anywhere
	f, err := os.OpenInRoot(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, Info{}, err
	}
	i, err := fileInfo(name, f.Stat)
	if err != nil {
		_ = f.Close()
		return nil, i, err
	}
	return f, i, nil
}

func (d dir) stat(_ context.Context, name string) (Info, error) {
	return fileInfo(name, func() (fs.FileInfo, error) { return os.Stat(d.file(name)) })
}

func fileInfo(name string, stat func() (fs.FileInfo, error)) (Info, error) {
	st, err := stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, err
	}
	return Info{name, st.Size(), st.ModTime()}, nil
}

// remove also removes folders that become empty, except for links.
func (d dir) remove(_ context.Context, name string) error {
	if err := disk.Remove(d.file(name)); err != nil {
		return err
	}
	for p := filepath.Dir(d.file(name)); p != string(d); p = filepath.Dir(p) {
		if st, err := os.Lstat(p); err != nil || !st.IsDir() || os.Remove(p) != nil {
			break
		}
	}
	return nil
}

func (d dir) list(ctx context.Context, prefix string) (all []Info, err error) {
	// The folder to start with may be in one that is a link.
	err = fs.WalkDir(os.DirFS(string(d)), path.Dir(prefix), func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed in the meantime
		case err != nil:
			return err
		case name == incoming:
			return fs.SkipDir
		case !e.Type().IsRegular() || !strings.HasPrefix(name, prefix) || checkName(name) != nil:
			return ctx.Err()
		}
		if st, err := e.Info(); err == nil {
			all = append(all, Info{name, st.Size(), st.ModTime()})
		}
		return ctx.Err()
	})
	return all, err
}
