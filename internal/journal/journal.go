// Package journal records on disk what a job has finished, so that the same command can
// continue it after a kill or a power loss. It has one record for each denoised window,
// in order. The reasons are in docs/adr/0006-resume-by-replay.md.
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

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

const (
	op       = "keep the job's journal"
	maxNotes = 1 << 20 // bytes of the file of notes
)

// Journal is the open journal of one job. Its methods are safe for concurrent use.
type Journal struct {
	dir, folder string
	fresh       string

	mu    sync.Mutex
	lock  *disk.Lock // nil once closed
	file  *os.File
	notes *os.File
	scan  *scanner // nil when all records are read
	err   error    // of reading a record
	head  int64    // bytes of the header
	end   int64    // valid bytes of the journal
	crc   uint32   // of the last good record
	noted int64    // valid bytes of the notes
	buf   []byte   // of the last record, for reuse
}

// Open opens the journal of a job in the folder dir/key and locks it. dir must exist; key
// has 1 to 128 letters, digits, "-" and "_". Open removes the files that the last run has
// noted (see Note) and left behind. If the journal cannot be used for this identity, Open
// starts a new one; Fresh returns the reason.
//
// The error is of kind Output if the journal is already open or files cannot be read or
// written, or Internal for an invalid key or identity.
func Open(dir, key string, identity Identity) (*Journal, error) {
	if !keyForm.MatchString(key) {
		return nil, fault.Internal.New(op+" "+key, "the key is invalid")
	}
	id, err := identity.encode()
	if err != nil {
		return nil, fault.Internal.Wrap(op+" "+key, err)
	}
	// The working directory may change later.
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
	if err := disk.SyncDir(j.folder); err != nil {
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

// fits reads the header and returns why the journal does not belong to this job, or "".
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

// Fresh returns why the journal is new: "none" if there was none, "damaged", or
// "other job: " with the names in the identity whose values differ. It returns "" if the
// journal continues an earlier run.
func (j *Journal) Fresh() string { return j.fresh }

// Next returns the next record of an earlier run, or false after the last complete one.
// It then removes an incomplete or damaged end, and Append is allowed. The record belongs
// to the caller. Errors are of kind Output; after one, Next and Append always fail.
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

// Append adds a record and syncs it to the disk. It is allowed after Next has returned all
// records. The error is of kind Output if the record cannot be written (disk full): the
// journal is then unchanged, and the caller may try again. It is of kind Internal for an
// invalid record (over 256 MiB, a plan that is not JSON) and if Append is not allowed.
func (j *Journal) Append(r Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	if j.scan != nil {
		return fault.Internal.New(op+" "+j.folder, "a window was added before all records were read")
	}
	if wrong := r.check(); wrong != "" {
		return fault.Internal.New(op+" "+j.folder, "a window is invalid: "+wrong)
	}
	b, crc := r.encode(j.buf, j.crc)
	j.buf = b
	if err := add(j.file, j.end, b); err != nil {
		return failure(op, j.path(journalName), err)
	}
	j.end, j.crc = j.end+int64(len(b)), crc
	return nil
}

// Note records the path of a file to remove if this run dies: the hidden file that becomes
// the output. Call it before creating the file. The next Open of the same job, or Sweep,
// removes the file if it is a regular one and has the form of such names. The error is of
// kind Internal for another form, or Output if the note cannot be written.
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
		return fault.Internal.New(op+" "+path, "it is not the name of a temporary output")
	}
	// An empty line separates it from one that is incomplete after a power loss.
	line := "\n" + strconv.Quote(full) + "\n"
	if err := add(j.notes, j.noted, []byte(line)); err != nil {
		return failure(op, j.path(notesName), err)
	}
	j.noted += int64(len(line))
	return nil
}

// Empty reports whether the journal has no records, read or not.
func (j *Journal) Empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.usable() != nil {
		return false
	}
	st, err := j.file.Stat()
	return err == nil && st.Size() <= j.head
}

// Close closes the journal and keeps it for another run. Further calls do nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lock == nil {
		return nil
	}
	err := errors.Join(j.file.Close(), j.notes.Close(), j.lock.Release())
	j.lock = nil
	return failure(op, j.folder, err)
}

// Remove closes the journal of a finished job and removes it with its folder. Files that
// were noted stay.
func (j *Journal) Remove() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil && j.lock == nil {
		return err
	}
	_, _ = j.file.Close(), j.notes.Close() // they are about to be removed
	err := removeFolder(j.folder, j.lock)
	j.lock = nil
	return failure("remove the job's journal", j.folder, err)
}

func (j *Journal) usable() error {
	if j.lock == nil {
		return fault.Internal.New(op+" "+j.folder, "it was used after it was closed")
	}
	return j.err
}

func (j *Journal) path(name string) string { return filepath.Join(j.folder, name) }

// add writes b at offset end, the end of the valid part of f, and syncs it. After a
// failure it truncates f to end. If that fails too, the next add overwrites the rest, and
// a reader stops there because it does not fit the chain of checksums.
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

// failure converts an error of the file system to an error for the user.
func failure(op, subject string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	cause, hint := fault.WithoutPath(err), "set `resume` to never to work without a journal"
	switch {
	case disk.IsFull(err):
		cause = fmt.Errorf("the disk is full: %w", cause)
		hint = "free some space, then run the same command again: it continues"
	case disk.IsTooLarge(err):
		cause = fmt.Errorf("the file has reached a size limit: %w", cause)
		hint = "raise the limit for the size of files (ulimit -f)"
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
