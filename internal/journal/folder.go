package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// The files of a job's folder. Nothing else in it is ever touched.
const (
	lockName    = "lock"    // locked while the job runs; the process's number, for people
	journalName = "journal" // header and records
	notesName   = "notes"   // files to be removed should the run die, one a line, quoted
)

// A lock that is taken is tried again for a moment: the other side may be a
// Sweep, or a process that was killed and is still being cleared away.
const (
	lockTries = 20
	lockPause = 25 * time.Millisecond
)

var keyForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// temporaryForm is how media names the hidden file that becomes the output:
// .<name>.lipstream-<process>-<12 hex digits><extension>
var temporaryForm = regexp.MustCompile(`(?s)^\..*\.lipstream-[0-9]+-[0-9a-f]{12}(\.[^./\\]+)?$`)

// lockFolder creates the folder where it is not there, and locks it.
func lockFolder(dir, folder string) (*os.File, error) {
	path := filepath.Join(folder, lockName)
	var holder string
	for try := range lockTries {
		if try > 0 {
			time.Sleep(lockPause)
		}
		if err := os.Mkdir(folder, 0o700); err == nil {
			if err := syncDir(dir); err != nil {
				return nil, err
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the folder was removed in between
		}
		if err != nil {
			return nil, err
		}
		ours, err := lockFile(f)
		if err != nil {
			return nil, err
		}
		if !ours {
			holder = processIn(path)
			continue
		}
		if err := f.Truncate(0); err == nil {
			_, _ = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0) // for people; the lock is what counts
		}
		return f, nil
	}
	cause := "another lipstream is making the same output"
	if holder != "" {
		cause += " (process " + holder + ")"
	}
	return nil, fault.Output.New(op+" "+folder, cause, "wait until it is done, or stop it")
}

// lockFile locks f, or closes it: where somebody else has it, and where
// somebody removed it after it was opened.
func lockFile(f *os.File) (ours bool, err error) {
	taken, err := tryLock(f)
	if err == nil && !taken {
		var st, at fs.FileInfo
		if st, err = f.Stat(); err == nil {
			if at, err = os.Stat(f.Name()); err == nil && os.SameFile(st, at) {
				return true, nil
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
	}
	_ = f.Close()
	return false, err
}

// processIn gives the number of the process that is written in a lock, or "".
func processIn(path string) string {
	b, err := readUpTo(path, 32)
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(string(b))
	if _, err := strconv.ParseUint(text, 10, 32); err != nil {
		return ""
	}
	return text
}

// removeFolder removes the files of a locked folder, and the folder itself
// where nothing else is in it. The lock goes last.
func removeFolder(folder string, lock *os.File) error {
	var failed error
	for _, name := range []string{journalName, notesName} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
	}
	if failed != nil {
		_ = lock.Close()
		return failed
	}
	if err := removeLocked(lock); err != nil {
		return err
	}
	_ = os.Remove(folder) // stays where the next run is in it already
	return nil
}

// Sweep removes the journals in dir that nobody has locked and whose files
// were not changed for olderThan, with the files that they noted (Note). What
// is not a journal stays. It goes on after a failure and gives the first, of
// kind fault.Output. A dir that is not there is empty.
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

func sweep(folder string, before time.Time) error {
	if touched(folder).After(before) {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(folder, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(folder) // only if it is empty: the lock is made first and removed last
		return nil
	}
	if err != nil {
		return err
	}
	if ours, err := lockFile(f); !ours {
		return err
	}
	if touched(folder).After(before) { // by a run that has ended since
		return f.Close()
	}
	removeNoted(filepath.Join(folder, notesName))
	return removeFolder(folder, f)
}

// touched gives the time of the last change in a job's folder.
func touched(folder string) time.Time {
	var last time.Time
	for _, name := range []string{"", lockName, journalName, notesName} {
		if st, err := os.Lstat(filepath.Join(folder, name)); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last
}

// isTemporary tells whether path is a full path that Lipstream gives to hidden
// temporary files.
func isTemporary(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && temporaryForm.MatchString(filepath.Base(path))
}

// removeNoted removes the files that are noted and tells whether all are gone.
// A line that was torn, or that names anything else than a regular file with a
// temporary's name, is passed over.
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
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			gone = false
		}
	}
	return gone
}
