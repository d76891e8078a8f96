//go:build linux || darwin

package journal

import (
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lipstream/lipstream/internal/fault"
)

func init() { tasks["full"] = appendToLimit }

// appendToLimit appends under a limit for the size of files, where a write succeeds in
// part, as on a full disk, and then without it.
func appendToLimit(dir string) error {
	j, err := Open(dir, "key", job)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	limit := was
	limit.Cur = 5 << 19 // nine records of a bit over 256 KiB, and the tenth in part
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	n := 0
	for ; err == nil; n++ {
		err = j.Append(numbered(n))
	}
	if n--; n != 9 {
		return fmt.Errorf("%d records before the limit", n)
	}
	if fault.KindOf(err) != fault.Output || !errors.Is(err, unix.EFBIG) || !strings.Contains(err.Error(), "size limit") {
		return fmt.Errorf("at the limit: %v", err)
	}
	st, err := j.file.Stat()
	if err != nil {
		return err
	}
	if st.Size() != j.end {
		return fmt.Errorf("the file has %d bytes after the failure, %d are good", st.Size(), j.end)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	for ; n < 12; n++ {
		if err := j.Append(numbered(n)); err != nil {
			return err
		}
	}
	return nil // without Close, as if it were killed
}

func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := child(t, "full", dir).Run(); err != nil {
		t.Fatal(err)
	}
	j := mustOpen(t, dir, job)
	for n := range 12 {
		r, ok, err := j.Next()
		if err != nil || !ok || !same(r, numbered(n)) {
			t.Fatalf("record %d: %v, %v", n, ok, err)
		}
	}
	checkRecords(t, "after the last", rest(t, j), nil)
}

func TestFullSaysSo(t *testing.T) {
	for err, want := range map[error]string{unix.ENOSPC: "the disk is full", unix.EDQUOT: "the disk is full", unix.EIO: "input/output error"} {
		got := failure(op, "x", fmt.Errorf("write: %w", err))
		if fault.KindOf(got) != fault.Output || !strings.Contains(got.Error(), want) || !errors.Is(got, err) || fault.HintOf(got) == "" {
			t.Errorf("%v: %v", err, got)
		}
	}
}
