package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
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

func (d dir) open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(d.file(name))
}

func (d dir) stat(_ context.Context, name string) (Info, error) {
	st, err := os.Stat(d.file(name))
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, err
	}
	return Info{name, st.Size(), st.ModTime()}, nil
}

// remove also removes folders that become empty.
func (d dir) remove(_ context.Context, name string) error {
	if err := os.Remove(d.file(name)); err != nil {
		return err
	}
	for p := filepath.Dir(d.file(name)); p != string(d) && os.Remove(p) == nil; {
		p = filepath.Dir(p)
	}
	return nil
}

func (d dir) list(ctx context.Context, prefix string) (all []Info, err error) {
	err = fs.WalkDir(os.DirFS(string(d)), ".", func(name string, e fs.DirEntry, err error) error {
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
