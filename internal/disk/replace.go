package disk

import (
	"fmt"
	"os"

	"github.com/lipstream/lipstream/internal/fault"
)

// Rename is like os.Rename. On Windows it also replaces a file that programs have
// open, if they allow it, and waits a moment for those that do not.
func Rename(from, to string) error {
	return explain(Retry(func() error { return rename(from, to) }))
}

// explain says why an open file cannot be replaced: Windows calls it a denied access.
func explain(err error) error {
	if IsBusy(err) {
		return fmt.Errorf("another program may have the file open: %w", fault.WithoutPath(err))
	}
	return err
}

// Hint returns hint, or what to do if a program has the file open that could not be
// written.
func Hint(err error, hint string) string {
	const open = "close the program that has the file open"
	switch {
	case !IsBusy(err):
		return hint
	case hint == "":
		return open
	}
	return open + ", or " + hint
}

// Remove is like os.Remove. On Windows it waits a moment for programs that have the
// file open.
func Remove(path string) error { return Retry(func() error { return os.Remove(path) }) }

// RemoveAll is like os.RemoveAll. On Windows it waits a moment for programs that have
// one of the files open.
func RemoveAll(path string) error { return Retry(func() error { return os.RemoveAll(path) }) }
