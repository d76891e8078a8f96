// Package journal keeps on disk what a job has finished, so that after a kill
// or a power loss the same command goes on: one record for each denoised
// window, in the order in which they were made. The reasons are in
// docs/adr/0006-resume-by-replay.md.
package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/lipstream/lipstream/internal/fault"
)

const (
	op       = "keep the job's journal"
	maxNotes = 1 << 20 // bytes of the file of notes
)

// Journal is the open journal of one job. Its methods may be called from
// several goroutines.
type Journal struct {
	dir, folder string
	fresh       string

	mu    sync.Mutex
	lock  *os.File // nil once closed
	file  *os.File
	notes *os.File
	scan  *scanner // nil when there is nothing left to read
	err   error    // why reading stopped before the end
	head  int64    // bytes of the header
	end   int64    // bytes of the journal that are good
	crc   uint32   // of the last good record
	noted int64    // bytes of the notes that are good
	buf   []byte   // of the last record, to be used again
}

// Open opens the journal of a job in the folder dir/key and locks it. dir must
// be there; key has 1 to 128 letters, digits, "-" and "_". What the last run
// noted (Note) and left behind is removed. A journal that cannot be used for
// this identity is begun anew; Fresh says why.
//
// Errors: fault.Output when another process (or this one) has the journal
// open, and when files cannot be read or written; fault.Internal for a key or
// an identity that cannot be.
func Open(dir, key string, identity Identity) (*Journal, error) {
	if !keyForm.MatchString(key) {
		return nil, fault.Internal.New(op+" "+key, "the key is not a plain name")
	}
	id, err := identity.encode()
	if err != nil {
		return nil, fault.Internal.Wrap(op+" "+key, err)
	}
	// The process may go to another directory later.
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, failure(op, dir, err)
	}
	j := &Journal{dir: dir, folder: filepath.Join(dir, key)}
	if j.lock, err = lockFolder(dir, j.folder); err != nil {
		return nil, failure(op, j.folder, err)
	}
	if err := j.open(id); err != nil {
		_ = j.Close()
		return nil, failure(op, j.folder, err)
	}
	return j, nil
}

func (j *Journal) open(id []byte) error {
	var err error
	if j.file, err = os.OpenFile(j.path(journalName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if j.notes, err = os.OpenFile(j.path(notesName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := syncDir(j.folder); err != nil {
		return err
	}
	if removeNoted(j.path(notesName)) {
		if err := j.notes.Truncate(0); err != nil {
			return err
		}
	}
	st, err := j.notes.Stat()
	if err != nil {
		return err
	}
	j.noted = st.Size()
	if st, err = j.file.Stat(); err != nil {
		return err
	}
	header, crc := encodeHeader(id)
	j.head = int64(len(header))
	j.scan = newScanner(j.file, st.Size())
	if j.fresh, err = fits(j.scan, st.Size(), id); err != nil || j.fresh == "" {
		return err
	}
	j.scan = nil
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if err := add(j.file, 0, header); err != nil {
		return err
	}
	j.end, j.crc = j.head, crc
	return nil
}

// fits reads the header and says why the journal is not of this job, or "".
func fits(s *scanner, size int64, id []byte) (string, error) {
	if size == 0 {
		return "none", nil
	}
	was, err := s.header()
	switch {
	case errors.Is(err, errDamaged):
		return "damaged", nil
	case errors.Is(err, errVersion):
		return "other job: format of the journal", nil
	case err != nil:
		return "", err
	case string(was) == string(id):
		return "", nil
	}
	names, err := differing(was, id)
	if err != nil {
		return "damaged", nil
	}
	return "other job: " + strings.Join(names, ", "), nil
}

// Fresh says why the journal was begun anew: "none" when there was none,
// "damaged", or "other job: " with the names of the identity whose values
// differ. "" means that it goes on.
func (j *Journal) Fresh() string { return j.fresh }

// Next gives the next record of an earlier run; false after the last one that
// is whole. A tail that was torn or damaged is cut off then, and Append is
// allowed. The record is the caller's. Errors are of kind fault.Output; after
// one there are no records and no Append.
func (j *Journal) Next() (Record, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return Record{}, false, err
	}
	if j.scan == nil {
		return Record{}, false, nil
	}
	r, err := j.scan.next()
	if err == nil {
		return r, true, nil
	}
	if errors.Is(err, errDamaged) {
		if err = j.file.Truncate(j.scan.end); err == nil {
			err = j.file.Sync()
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		j.err = failure(op, j.path(journalName), err)
		return Record{}, false, j.err
	}
	j.end, j.crc, j.scan = j.scan.end, j.scan.crc, nil
	return Record{}, false, nil
}

// Append adds a record, on the disk before it returns. It is allowed after
// Next has given all records. Errors: fault.Output when it cannot be written
// (disk full); the journal is then as it was before, and Append may be tried
// again. fault.Internal for a record that cannot be (over 256 MiB, a plan that
// is not JSON) and for an Append that is not allowed.
func (j *Journal) Append(r Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	if j.scan != nil {
		return fault.Internal.New(op+" "+j.folder, "appended before all records were read")
	}
	if wrong := r.check(); wrong != "" {
		return fault.Internal.New(op+" "+j.folder, "a window cannot be kept: "+wrong)
	}
	b, crc := r.encode(j.buf, j.crc)
	j.buf = b
	if err := add(j.file, j.end, b); err != nil {
		return failure(op, j.path(journalName), err)
	}
	j.end, j.crc = j.end+int64(len(b)), crc
	return nil
}

// Note keeps the path of a file that is to be removed should this run die: the
// hidden file that becomes the output. Best before the file is made. The next
// Open of the same job removes it, or Sweep; only a regular file at this place
// with a name as Lipstream gives to such files, which is checked here too
// (fault.Internal). Errors of writing are of kind fault.Output.
func (j *Journal) Note(path string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return failure(op, path, err)
	}
	if !isTemporary(full) {
		return fault.Internal.New(op+" "+path, "is not the name of a temporary output")
	}
	// An empty line parts it from one that power loss has torn.
	line := "\n" + strconv.Quote(full) + "\n"
	if err := add(j.notes, j.noted, []byte(line)); err != nil {
		return failure(op, j.path(notesName), err)
	}
	j.noted += int64(len(line))
	return nil
}

// Empty tells that there is no window in the journal, read or not.
func (j *Journal) Empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.usable() != nil {
		return false
	}
	st, err := j.file.Stat()
	return err == nil && st.Size() <= j.head
}

// Close lets the journal go and keeps it for another run. A second Close does
// nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lock == nil {
		return nil
	}
	err := j.closeFiles()
	if e := j.lock.Close(); err == nil {
		err = e
	}
	j.lock = nil
	return failure(op, j.folder, err)
}

// Remove closes the journal and removes it with its folder: the job is done.
// Files that were noted stay; they are the job's.
func (j *Journal) Remove() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil && j.lock == nil {
		return err
	}
	_ = j.closeFiles() // nothing in them is wanted any more
	err := removeFolder(j.folder, j.lock)
	j.lock = nil
	return failure("remove the job's journal", j.folder, err)
}

func (j *Journal) closeFiles() error {
	var first error
	for _, f := range []*os.File{j.file, j.notes} {
		if f == nil {
			continue // Open failed before it
		}
		if err := f.Close(); first == nil {
			first = err
		}
	}
	return first
}

func (j *Journal) usable() error {
	if j.lock == nil {
		return fault.Internal.New(op+" "+j.folder, "used after it was closed")
	}
	return j.err
}

func (j *Journal) path(name string) string { return filepath.Join(j.folder, name) }

// add writes b at the end of what is good in f, to the disk. After a failure f
// ends there again. Where even that fails, the next add writes over it, and a
// reader stops at what is left: it does not fit the chain of checksums.
func add(f *os.File, end int64, b []byte) error {
	_, err := f.WriteAt(b, end)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		if f.Truncate(end) == nil {
			_ = f.Sync()
		}
	}
	return err
}

// failure puts an error of the file system into the user's words.
func failure(op, subject string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	cause, hint := fault.WithoutPath(err), "use --resume never to go without a journal"
	switch {
	case isFull(err):
		cause = fmt.Errorf("the disk is full: %w", cause)
		hint = "free some space; the same command goes on from there"
	case isTooLarge(err):
		cause = fmt.Errorf("the file has reached a size limit: %w", cause)
		hint = "raise the limit on the size of files (ulimit -f)"
	}
	return fault.Output.Wrap(op+" "+subject, cause, hint)
}

// readUpTo reads the first n bytes of a file.
func readUpTo(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}
