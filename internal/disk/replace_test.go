package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPaths writes, replaces, locks and removes files whose paths have spaces,
// characters that shells and Windows treat specially, other scripts, or more than
// 260 characters.
func TestPaths(t *testing.T) {
	for _, name := range []string{
		"with spaces", "a & b (100%) 'c' ^d;e=f,g!", "Größe", "日本語", "смех 😀", strings.Repeat("long folder/", 30) + "end",
	} {
		folder := filepath.Join(t.TempDir(), filepath.FromSlash(name))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, name[:min(len(name), 10)]+".json")
		for _, text := range []string{"first", "second"} {
			if err := WriteFile(path, []byte(text), 0o644); err != nil || read(t, path) != text {
				t.Errorf("%s: %v", path, err)
			}
		}
		lock, err := TryLock(path + ".lock")
		if err != nil {
			t.Fatal(err)
		}
		temp := TempName(path)
		if err := os.WriteFile(temp, []byte("third"), 0o644); err != nil {
			t.Error(err)
		}
		if err := Replaceable(path); err != nil {
			t.Error(err)
		}
		if err := Rename(temp, path); err != nil || read(t, path) != "third" {
			t.Errorf("%s: %v", path, err)
		}
		if err := Remove(path); err != nil {
			t.Error(err)
		}
		if err := lock.Remove(); err != nil || names(t, folder) != "" {
			t.Errorf("%v, left %q", err, names(t, folder))
		}
		if err := RemoveAll(folder); err != nil {
			t.Error(err)
		}
	}
}

func TestHintOfOthers(t *testing.T) {
	if got := Hint(os.ErrNotExist, "choose another name"); got != "choose another name" {
		t.Error(got)
	}
	if err := Rename(filepath.Join(t.TempDir(), "missing"), "x"); !os.IsNotExist(err) || IsBusy(err) {
		t.Error(err)
	}
}
