package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/windows"

	"github.com/lipstream/lipstream/internal/disk/disktest"
)

// TestOpenFile: a file that somebody has open is not replaced or removed until it is
// closed, and the error says so; nor is a folder with such a file.
func TestOpenFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	path := filepath.Join(dir, "a")
	for _, c := range []struct {
		name string
		f    func() error
	}{
		{"write", func() error { return WriteFile(path, []byte("new"), 0o644) }},
		{"replaceable", func() error { return Replaceable(path) }},
		{"remove", func() error { return Remove(path) }},
		{"remove all", func() error { return RemoveAll(dir) }},
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { // whose clock does not wait
			err = c.f()
			if !IsBusy(err) || read(t, path) != "old" || names(t, dir) != "a " {
				t.Errorf("%s: %v, left %s", c.name, err, names(t, dir))
			}
			const open = "close the program that has the file open"
			if Hint(err, "") != open || Hint(err, "wait") != open+", or wait" {
				t.Errorf("%s: hint %q", c.name, Hint(err, ""))
			}
			if c.name[0] == 'w' && !strings.Contains(err.Error(), "another program may have the file open: ") {
				t.Errorf("%s: %v", c.name, err)
			}
			go func() {
				time.Sleep(retryFor / 2)
				_ = f.Close()
			}()
			if err := c.f(); err != nil {
				t.Errorf("%s: closed meanwhile: %v", c.name, err)
			}
		})
	}
}

// TestReplaceShared: a file that its reader lets others delete is replaced at once,
// and the reader keeps the old one.
func TestReplaceShared(t *testing.T) {
	if !disktest.ReplacesOpenFiles() {
		t.Skip("Wine never replaces an open file")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for name, write := range map[string]func() error{
		"in its folder": func() error { return WriteFile(path, []byte("new"), 0o644) },
		"from another":  func() error { return writeIn(t.TempDir(), path, "new") },
	} {
		t.Run(name, func(t *testing.T) { replaceShared(t, dir, path, write) })
	}
}

// writeIn replaces a file with a new one that is made in another folder.
func writeIn(folder, path, text string) error {
	f, err := CreateIn(folder, path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Commit(0o644)
}

// TestRenameElsewhere moves files between folders.
func TestRenameElsewhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{t.TempDir(), dir, filepath.Join(dir, "a"), filepath.Dir(path)} {
		if err := writeIn(folder, path, folder); err != nil || read(t, path) != folder {
			t.Errorf("from %s: %v", folder, err)
		}
	}
	if err := rename(filepath.Join(dir, "none"), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func replaceShared(t *testing.T, dir, path string, write func() error) {
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenInRoot(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := write(); err != nil || read(t, path) != "new" {
		t.Errorf("%v", err)
	}
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "old" {
		t.Errorf("the reader reads %q, %v", b, err)
	}
}

func TestIsBusy(t *testing.T) {
	for _, err := range busyErrors {
		if !IsBusy(&os.PathError{Err: err}) || !IsBusy(&os.LinkError{Err: err}) {
			t.Errorf("%v is not busy", err)
		}
	}
	if IsBusy(nil) || IsBusy(windows.ERROR_FILE_NOT_FOUND) || IsBusy(errors.New("x")) {
		t.Error("an error of another kind")
	}
}
