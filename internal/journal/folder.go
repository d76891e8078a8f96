package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// The files of a job's folder. Other files in it are never changed.
const (
	lockName    = "lock"    // locked while the job runs; contains the process ID
	journalName = "journal" // header and records
	notesName   = "notes"   // files to remove if the run dies, one per line, quoted
)

// lockWait is how long a lock that is held is waited for: the owner may be a Sweep, or a
// process that was killed and has not ended yet.
const lockWait = 500 * time.Millisecond

var keyForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// lockFolder creates the folder if it does not exist, and locks it.
func lockFolder(dir, folder string) (*disk.Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	path := filepath.Join(folder, lockName)
	for {
		if err := disk.Retry(func() error { return os.Mkdir(folder, 0o700) }); err == nil {
			if err := disk.SyncDir(dir); err != nil {
				return nil, err
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		lock, err := disk.WaitLock(ctx, path, nil)
		switch {
		case err == nil:
			_ = writeProcess(path) // for messages only
			return lock, nil
		case ctx.Err() != nil:
			cause := "another lipstream is making the same output"
			if holder := processIn(path); holder != "" {
				cause += " (process " + holder + ")"
			}
			return nil, fault.Output.New(op+" "+folder, cause, "wait until it is done, or stop it")
		case !errors.Is(err, fs.ErrNotExist): // else the folder was removed in between
			return nil, err
		}
	}
}

// The process ID in a lock has a line of its own: on Windows others cannot read the
// first byte of a locked file.

func writeProcess(lock string) error {
	f, err := os.OpenFile(lock, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 1)
	return errors.Join(err, f.Close())
}

// processIn returns the process ID in a lock, or "".
func processIn(lock string) string {
	f, err := os.Open(lock)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 1)
	text, _, _ := strings.Cut(string(b[:n]), "\n")
	if _, err := strconv.ParseUint(text, 10, 32); err != nil {
		return ""
	}
	return text
}

// removeFolder removes the files of a locked folder, the lock last, and the folder if it
// is then empty.
func removeFolder(folder string, lock *disk.Lock) error {
	for _, name := range []string{journalName, notesName} {
		if err := disk.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			_ = lock.Release()
			return err
		}
	}
	if err := lock.Remove(); err != nil {
		return err
	}
	_ = os.Remove(folder) // fails if another run has already started in it
	return nil
}

// Sweep removes the journals in dir that are not locked and whose files have not changed
// for olderThan, with the files that they have noted (see Note). Other files stay. Sweep
// continues after an error, and returns the first one, of kind Output. If dir does not
// exist, it does nothing.
func Sweep(dir string, olderThan time.Duration) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failure("remove old journals", dir, err)
	}
	var first error
	for _, e := range entries {
		if !e.IsDir() || !keyForm.MatchString(e.Name()) {
			continue
		}
		folder := filepath.Join(dir, e.Name())
		if err := sweep(folder, time.Now().Add(-olderThan)); err != nil && first == nil {
			first = failure("remove old journals", folder, err)
		}
	}
	return first
}

// Size returns the size of a job's journal in bytes, 0 if there is none.
func Size(dir, key string) int64 {
	st, err := os.Lstat(filepath.Join(dir, key, journalName))
	if err != nil {
		return 0
	}
	return st.Size()
}

// FrameSize returns how many bytes a frame takes at most, if it has so many latents that
// are rounded to float16. A window shares frames with the one before, and has the latents
// of all its frames.
func FrameSize(latents, window, overlap int) int64 {
	return int64(2*latents*window/max(1, window-overlap)) + 64
}

func sweep(folder string, before time.Time) error {
	if touched(folder).After(before) {
		return nil
	}
	path := filepath.Join(folder, lockName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(folder) // only succeeds if it is empty: the lock is created first and removed last
		return nil
	}
	lock, err := disk.TryLock(path)
	if errors.Is(err, disk.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if touched(folder).After(before) { // by a run that has ended meanwhile
		return lock.Release()
	}
	removeNoted(filepath.Join(folder, notesName))
	return removeFolder(folder, lock)
}

// touched returns the time of the last change in a job's folder.
func touched(folder string) time.Time {
	var last time.Time
	for _, name := range []string{"", lockName, journalName, notesName} {
		if st, err := os.Lstat(filepath.Join(folder, name)); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}

// isTemporary reports whether path is the absolute path of a hidden temporary file.
func isTemporary(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && disk.IsTempName(filepath.Base(path))
}

// removeNoted removes the files that are noted and reports whether all are removed. It
// ignores incomplete lines, and those with anything other than a regular file with the
// name of a temporary one.
func removeNoted(notes string) (gone bool) {
	b, err := readUpTo(notes, maxNotes)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	gone = true
	for line := range strings.Lines(string(b)) {
		path, err := strconv.Unquote(strings.TrimSuffix(line, "\n"))
		if err != nil || !strings.HasSuffix(line, "\n") || !isTemporary(path) {
			continue
		}
		st, err := os.Lstat(path)
		if err == nil && st.Mode().IsRegular() {
			err = disk.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			gone = false
		}
	}
	return gone
}
