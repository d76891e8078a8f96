// Package disk replaces files in one step, so that a reader sees the old
// content or the new one and never a part, and locks files across processes.
package disk

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/lipstream/lipstream/internal/fault"
)

// File is a file that is being written under a temporary name. Commit moves it
// to its own name.
type File struct {
	*os.File
	path string
	done bool
}

// Create begins to write the file that Commit will put at path. The temporary
// file is a hidden one in the same folder. The caller defers Close.
func Create(path string) (*File, error) { return CreateIn(filepath.Dir(path), path) }

// CreateIn is like Create with the temporary file in another folder, which has
// to be on the same file system. The folder of path need not exist before
// Commit.
func CreateIn(folder, path string) (*File, error) {
	f, err := os.CreateTemp(folder, "."+filepath.Base(path)+"-*.part")
	if err != nil {
		return nil, err
	}
	return &File{File: f, path: path}, nil
}

// Commit writes the file to the disk, gives it its permissions and moves it to
// its name, replacing a file that is there. After an error the temporary file
// is gone and the old file is as it was.
func (f *File) Commit(perm fs.FileMode) error {
	err := errors.Join(f.Chmod(perm), f.Sync(), f.File.Close())
	if err == nil {
		err = Rename(f.Name(), f.path)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	f.done = true
	// The file is complete by now. A folder that cannot be synced only means
	// that a power cut may bring back the old one.
	_ = SyncDir(filepath.Dir(f.path))
	return nil
}

// Close gives up what was written. After Commit it does nothing.
func (f *File) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	_ = f.File.Close() // Commit may have closed it
	return Remove(f.Name())
}

// Write replaces the file at path with what write writes.
func Write(path string, perm fs.FileMode, write func(io.Writer) error) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b := bufio.NewWriterSize(f, 64<<10)
	if err := write(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return f.Commit(perm)
}

// WriteFile is like os.WriteFile, in one step.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Write(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// SyncDir makes the names in a folder survive a power cut. Where the system
// cannot sync folders it does nothing.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" { // folders cannot be synced here; names are journaled
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	_ = f.Close()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// Reader returns a reader of r that fails when ctx ends, for copies that take long.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// CacheVariable returns the name of the environment variable that sets the user's cache
// folder.
func CacheVariable() string {
	switch runtime.GOOS {
	case "windows":
		return "LOCALAPPDATA"
	case "darwin":
		return "HOME" // the folder is Library/Caches in it
	}
	return "XDG_CACHE_HOME"
}

// UserDir returns the folder that an environment variable names, or the folder
// lipstream/name in the user's cache folder. variable may be "". An error is of
// kind Missing.
func UserDir(variable, name string) (string, error) {
	hint := "set " + CacheVariable()
	if variable != "" {
		if dir := os.Getenv(variable); dir != "" {
			return dir, nil
		}
		hint = "set " + variable
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Missing.Wrap("find the cache folder", err, hint)
	}
	return filepath.Join(cache, "lipstream", name), nil
}

// Within reports whether a path names something in a folder, or the folder itself. It does
// not look at the disk. On Windows it refuses the names of devices and of streams of a file.
func Within(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}
