package store

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// Dir is a store in a folder, with one file for each object.
type Dir struct{ root string }

const (
	incoming = ".incoming" // folder of incomplete objects
	storeOp  = "keep object"
)

// NewDir opens a store in a folder, which it creates if necessary.
func NewDir(root string) (*Dir, error) {
	root, err := filepath.Abs(root)
	if err == nil {
		err = os.MkdirAll(filepath.Join(root, incoming), 0o700)
	}
	if err != nil {
		return nil, fault.Output.Wrap("make the folder "+root, fault.WithoutPath(err))
	}
	return &Dir{root}, nil
}

func (d *Dir) file(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Put implements Store.
func (d *Dir) Put(ctx context.Context, name string, r io.Reader) (i Info, err error) {
	if err := checkName(name); err != nil {
		return i, err
	}
	fail := func(err error) (Info, error) {
		return Info{}, fault.Output.Wrap(storeOp+" "+name, fault.WithoutPath(err), "check the free space on the disk")
	}
	path := d.file(name)
	f, err := disk.CreateIn(filepath.Join(d.root, incoming), path)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, disk.Reader(ctx, r)); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fail(err)
	}
	if err := f.Commit(0o600); err != nil {
		return fail(err)
	}
	return d.Stat(ctx, name)
}

// Open implements Store.
func (d *Dir) Open(ctx context.Context, name string) (io.ReadCloser, Info, error) {
	i, err := d.Stat(ctx, name)
	if err != nil {
		return nil, i, err
	}
	f, err := os.Open(d.file(name))
	if err != nil {
		return nil, i, fault.Input.Wrap("read object "+name, fault.WithoutPath(err))
	}
	return f, i, nil
}

// Stat implements Store.
func (d *Dir) Stat(_ context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	st, err := os.Stat(d.file(name))
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, fault.Input.Wrap("read object "+name, fault.WithoutPath(err))
	}
	return Info{name, st.Size(), st.ModTime()}, nil
}

// Delete implements Store. It also removes folders that become empty.
func (d *Dir) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := os.Remove(d.file(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Output.Wrap("remove object "+name, fault.WithoutPath(err))
	}
	for p := filepath.Dir(d.file(name)); p != d.root && os.Remove(p) == nil; {
		p = filepath.Dir(p)
	}
	return nil
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix string) ([]Info, error) {
	var all []Info
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed in the meantime
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir() && e.Name() == incoming:
			return fs.SkipDir
		case !e.Type().IsRegular():
			return nil
		}
		name, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		if name = filepath.ToSlash(name); !strings.HasPrefix(name, prefix) || checkName(name) != nil {
			return nil
		}
		if st, err := e.Info(); err == nil {
			all = append(all, Info{name, st.Size(), st.ModTime()})
		}
		return nil
	})
	sortByName(all)
	return all, fault.Input.Wrap("list objects of "+d.root, err)
}

func sortByName(all []Info) {
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
}

// Path implements Store.
func (d *Dir) Path(name string) string {
	if checkName(name) != nil {
		return ""
	}
	return d.file(name)
}

// URL implements Store.
func (d *Dir) URL() string { return "dir:" + d.root }

// Close implements Store.
func (d *Dir) Close() error { return nil }
