package disk

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/windows"
)

// busyErrors are the errors of files that another program has open, maps, or is
// removing: a removed file can keep its name until the last program closes it.
var busyErrors = []error{
	windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION, windows.ERROR_ACCESS_DENIED,
	windows.ERROR_DELETE_PENDING, windows.ERROR_USER_MAPPED_FILE, windows.ERROR_DIR_NOT_EMPTY,
}

// IsBusy reports whether an operation failed because another program has the file
// open. Missing permissions give the same error.
func IsBusy(err error) bool {
	return slices.ContainsFunc(busyErrors, func(busy error) bool { return errors.Is(err, busy) })
}

// Virus scanners and indexers open new files for a moment. retryFor is how long an
// operation is tried again, every retryInterval.
const (
	retryFor      = time.Second
	retryInterval = 20 * time.Millisecond
)

// Retry calls f again for a moment while its error is one of IsBusy.
func Retry(f func() error) error {
	for began := time.Now(); ; time.Sleep(retryInterval) {
		if err := f(); !IsBusy(err) || time.Since(began) >= retryFor {
			return err
		}
	}
}

// Replaceable returns the error that Rename would return because a program has the
// file at path open. It does not notice programs that only map the file. It returns nil
// if the file does not exist.
func Replaceable(path string) error {
	// Renaming a file to its own name changes nothing, but needs the same rights.
	err := explain(Retry(func() error { return os.Rename(path, path) }))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rename uses os.Root: unlike os.Rename, that replaces a file that programs have open if
// they let others delete it (POSIX semantics). It follows no links to other folders and
// stays on one volume, so os.Rename does what it cannot.
func rename(from, to string) error {
	dir := filepath.Dir(to)
	for !Within(dir, from) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	if renameIn(dir, from, to) == nil {
		return nil
	}
	return os.Rename(from, to)
}

// renameIn renames a file within a folder that both names are in.
func renameIn(dir, from, to string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	a, err1 := filepath.Rel(dir, from)
	b, err2 := filepath.Rel(dir, to)
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	return root.Rename(a, b)
}
