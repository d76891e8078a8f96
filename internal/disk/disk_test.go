package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// lockVariable makes the test binary lock the named file, say so, and hold it
// until its standard input ends.
const lockVariable = "LIPSTREAM_TEST_LOCK"

// unnamedVariable makes the test binary open an unnamed file in the named folder, say
// so, and hold it until its standard input ends.
const unnamedVariable = "LIPSTREAM_TEST_UNNAMED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(unnamedVariable); dir != "" {
		f, err := Unnamed(dir)
		if err == nil {
			_, err = f.WriteString("text")
		}
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	if path := os.Getenv(lockVariable); path != "" {
		if _, err := TryLock(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names lists a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, e := range entries {
		out += e.Name() + " "
	}
	return out
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	for _, text := range []string{"first", "second, longer", ""} {
		if err := WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	st, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	// A failure leaves the old file and nothing else.
	if err := WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err = Write(path, 0o644, func(w io.Writer) error {
		_, _ = w.Write(make([]byte, 1<<20))
		return boom
	})
	if !errors.Is(err, boom) || read(t, path) != "kept" || names(t, dir) != "a.json " {
		t.Errorf("%v, %q, %s", err, read(t, path), names(t, dir))
	}
	// A name that cannot be replaced: a folder with something in it.
	if err := os.MkdirAll(filepath.Join(dir, "folder", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "folder"), nil, 0o644); err == nil || names(t, dir) != "a.json folder " {
		t.Errorf("%v, %s", err, names(t, dir))
	}
	if err := WriteFile(filepath.Join(dir, "missing", "a"), nil, 0o644); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestCreateIn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "objects", "a")
	f, err := CreateIn(dir, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if read(t, path) != "text" || names(t, dir) != "objects " {
		t.Errorf("%q, %s", read(t, path), names(t, dir))
	}
}

func TestReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := Reader(ctx, strings.NewReader("text"))
	b := make([]byte, 2)
	if n, err := r.Read(b); string(b[:n]) != "te" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	cancel()
	if n, err := r.Read(b); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: %d bytes, %v", n, err)
	}
}

func TestIsFull(t *testing.T) {
	if IsFull(nil) || IsFull(os.ErrNotExist) || IsTooLarge(nil) {
		t.Error("an error of another kind")
	}
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	defer f.Close()
	if _, err := f.WriteString("x"); !IsFull(err) || IsTooLarge(err) {
		t.Errorf("%v", err)
	}
}

// TestUnnamed: nothing is left of an unnamed file, even if its process is killed.
func TestUnnamed(t *testing.T) {
	dir := t.TempDir()
	f, err := Unnamed(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := f.WriteString("text"); err != nil {
		t.Error(err)
	}
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	if err := f.Close(); err != nil || names(t, dir) != "" {
		t.Errorf("%v, left %s", err, names(t, dir))
	}
	if _, err := Unnamed(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	cmd, _ := another(t, unnamedVariable, dir, "<nil>")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if left := names(t, dir); left != "" {
		t.Errorf("left after a kill: %s", left)
	}
}

// another starts this program with a variable, and waits until it prints a word. It ends when
// its input is closed.
func another(t *testing.T, variable, value, word string) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+value)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line string
	if _, err := fmt.Fscanln(out, &line); err != nil || line != word {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd, in
}

// TestLockOfAnotherProcess: a lock keeps others out and ends with its process.
func TestLockOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd, in := another(t, lockVariable, path, "locked")
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("%v", err)
	}
	// It is there when the other process goes away, without having released it.
	l, err := WaitLock(t.Context(), path, func() { _ = in.Close() })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	ended, end := context.WithCancelCause(t.Context())
	reason := errors.New("no longer wanted")
	if _, err := WaitLock(ended, path, func() { end(reason) }); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if err := l.Remove(); err != nil || names(t, dir) != "" {
		t.Errorf("%v, %s", err, names(t, dir))
	}
	if _, err := TryLock(filepath.Join(dir, "missing", "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestLockIsExclusive: of many that take the lock and remove its file, one at a
// time has it.
func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	synctest.Test(t, func(t *testing.T) {
		held, rounds := 0, 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 25 {
					l, err := WaitLock(t.Context(), path, nil)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					held++
					if held != 1 {
						t.Errorf("%d have the lock", held)
					}
					rounds++
					mu.Unlock()
					runtime.Gosched()
					mu.Lock()
					held--
					mu.Unlock()
					if err := l.Remove(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if rounds != 100 {
			t.Errorf("%d rounds", rounds)
		}
	})
}

// TestTempName: the journal removes hidden files by their names, so both must agree.
func TestTempName(t *testing.T) {
	for _, path := range []string{"a.mp4", filepath.Join(t.TempDir(), "b c.tar.mkv"), "noext", ".hidden.mov", strings.Repeat("é", 200) + ".mp4", "line\nbreak.mp4", "bad\xff.mp4"} {
		for range 50 {
			name := TempName(path)
			if filepath.Dir(name) != filepath.Dir(path) || filepath.Ext(name) != filepath.Ext(path) && filepath.Ext(path) != "" || !IsTempName(filepath.Base(name)) || len(filepath.Base(name)) > 255 {
				t.Fatalf("%q for %q", name, path)
			}
		}
		if IsTempName(filepath.Base(path)) {
			t.Errorf("%q is a temporary name", path)
		}
	}
}
