package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, job)
	mustAppend(t, j, small()...)
	output := filepath.Join(t.TempDir(), ".a.lipstream-1-0123456789ab.mp4")
	if err := j.Note(output); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	checkThere(t, false, filepath.Join(dir, "key"))
	checkThere(t, true, output)
	if err := j.Append(small()[0]); fault.KindOf(err) != fault.Internal {
		t.Errorf("appended after Remove: %v", err)
	}
	if err := j.Remove(); fault.KindOf(err) != fault.Internal {
		t.Errorf("removed twice: %v", err)
	}
	mustClose(t, j)

	j = mustOpen(t, dir, job)
	if j.Fresh() != "none" {
		t.Errorf("after Remove: fresh %q", j.Fresh())
	}
	foreign := filepath.Join(dir, "key", "foreign")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	checkThere(t, true, foreign)
}

func checkThere(t *testing.T, want bool, path string) {
	t.Helper()
	if _, err := os.Lstat(path); (err == nil) != want {
		t.Errorf("%s: %v, should exist: %v", path, err, want)
	}
}

func TestNote(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(out, name) }
	good := []string{
		at(".a.lipstream-12-0123456789ab.mp4"), at(".a b.c.lipstream-1-ffffffffffff.mov"),
		at("..lipstream-1-0123456789ab"), at(".never made.lipstream-1-0123456789ab.mkv"),
	}
	if runtime.GOOS == "linux" {
		good = append(good, at(".line\nand \xff.lipstream-1-0123456789ab.mp4"))
	}
	bad := []string{
		at("a.mp4"), at("a.lipstream-1-0123456789ab.mp4"), at(".a.lipstream-1-0123456789ab.mp4.txt"),
		at(".a.lipstream-1-0123456789AB.mp4"), at(".a.lipstream-x-0123456789ab.mp4"), at(".a.lipstream-1-0123456789ab0.mp4"), "",
	}
	j := mustOpen(t, dir, job)
	for _, path := range good {
		if err := j.Note(path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range bad {
		if err := j.Note(path); fault.KindOf(err) != fault.Internal {
			t.Errorf("%q was noted: %v", path, err)
		}
	}
	mustClose(t, j)

	// Lines from others, and files whose type has changed.
	folder, link := at(".dir.lipstream-1-0123456789ab.mp4"), at(".link.lipstream-1-0123456789ab.mp4")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("a.mp4"), link); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	torn := at(".torn.lipstream-1-0123456789ab.mp4")
	edit(t, filepath.Join(dir, "key", notesName), func(b []byte) []byte {
		for _, path := range append(bad, folder, link, "."+string(filepath.Separator)+".rel.lipstream-1-0123456789ab.mp4") {
			b = fmt.Appendf(b, "%q\n", path)
		}
		return fmt.Appendf(append(b, "no quotes\n"...), "%q", torn)
	})
	for i, path := range append(append(bad[:len(bad)-1:len(bad)-1], torn), good...) {
		if strings.Contains(path, "never made") {
			continue
		}
		if err := os.WriteFile(path, []byte{byte(i)}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpen(t, dir, job))
	for _, path := range good {
		checkThere(t, false, path)
	}
	for _, path := range append(bad[:len(bad)-1:len(bad)-1], folder, torn) {
		checkThere(t, true, path)
	}
	if runtime.GOOS != "windows" {
		checkThere(t, true, link)
	}

	// Only once: a later file of this name belongs to another job.
	if err := os.WriteFile(good[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, job))
	checkThere(t, true, good[0])
}

// TestNoteAfterTornLine: a note after an incomplete one counts.
func TestNoteAfterTornLine(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	output := filepath.Join(out, ".a.lipstream-1-0123456789ab.mp4")
	j := mustOpen(t, dir, job)
	edit(t, filepath.Join(dir, "key", notesName), func([]byte) []byte { return []byte(`"/half`) })
	j.noted = int64(len(`"/half`))
	if err := j.Note(output); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, job))
	checkThere(t, false, output)
}

func TestSweep(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	old := time.Now().Add(-48 * time.Hour)
	output := filepath.Join(out, ".a.lipstream-1-0123456789ab.mp4")
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"old", "new", "touched", "busy"} {
		j, err := Open(dir, key, job)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, j, small()[0])
		if key == "old" {
			if err := j.Note(output); err != nil {
				t.Fatal(err)
			}
		}
		if key != "busy" {
			mustClose(t, j)
		}
		t.Cleanup(func() { _ = j.Close() })
	}
	for _, name := range []string{"empty", "foreign", "not.a.key"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", filepath.Join("foreign", journalName)} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	age := func(keys ...string) {
		for _, key := range keys {
			for _, name := range []string{lockName, journalName, notesName, ""} {
				if err := os.Chtimes(filepath.Join(dir, key, name), old, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}
	}
	age("old", "busy", "touched", "empty", "foreign", "not.a.key")
	if err := os.Chtimes(filepath.Join(dir, "touched", journalName), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"old": false, "empty": false, "new": true, "touched": true, "busy": true, "foreign": true, "not.a.key": true, "file": true,
	} {
		checkThere(t, want, filepath.Join(dir, name))
	}
	checkThere(t, false, output)
	if err := Sweep(filepath.Join(dir, "missing"), 0); err != nil {
		t.Error(err)
	}
	// To Windows, a file where a folder should be is a path that does not exist.
	if err := Sweep(filepath.Join(dir, "file"), 0); fault.KindOf(err) != fault.Output && runtime.GOOS != "windows" {
		t.Errorf("a file was swept: %v", err)
	}
}

// TestPaths continues and removes journals in folders with spaces, other scripts and
// more than 260 characters.
func TestPaths(t *testing.T) {
	for _, name := range []string{"with spaces & (100%)", "Größe 日本語 😀", strings.Repeat("long folder/", 30)} {
		dir := filepath.Join(t.TempDir(), filepath.FromSlash(name))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		output := filepath.Join(dir, ".ü.lipstream-1-0123456789ab.mp4")
		j := mustOpen(t, dir, job)
		mustAppend(t, j, small()...)
		if err := j.Note(output); err != nil {
			t.Error(err)
		}
		mustClose(t, j)
		if err := os.WriteFile(output, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, dir, job)
		checkThere(t, false, output)
		if j.Fresh() != "" {
			t.Errorf("%s: fresh %q", name, j.Fresh())
		}
		checkRecords(t, name, rest(t, j), small())
		if err := j.Remove(); err != nil {
			t.Error(err)
		}
		checkThere(t, false, filepath.Join(dir, "key"))
	}
}
