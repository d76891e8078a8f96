package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// whole returns the bytes of a journal of small() and the offsets of the end of the
// header and of each record.
func whole(t testing.TB) (b []byte, ends []int) {
	id, err := job.encode()
	if err != nil {
		t.Fatal(err)
	}
	b, crc := encodeHeader(id)
	ends = []int{len(b)}
	for _, r := range small() {
		var one []byte
		one, crc = r.encode(nil, crc)
		b = append(b, one...)
		ends = append(ends, len(b))
	}
	return b, ends
}

// checkPrefix opens a journal with these bytes: it must have exactly the records
// that end at or before good, and continue after them.
func checkPrefix(t *testing.T, what string, b []byte, ends []int, good int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "key"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key", journalName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	n := -1
	for n+1 < len(ends) && ends[n+1] <= good {
		n++
	}
	j := mustOpen(t, dir, job)
	if (j.Fresh() != "") != (n < 0) {
		t.Fatalf("%s: fresh %q with %d records", what, j.Fresh(), n)
	}
	want := small()[:max(n, 0)]
	checkRecords(t, what, rest(t, j), want)
	st, err := os.Stat(filepath.Join(dir, "key", journalName))
	if err != nil {
		t.Fatal(err)
	}
	if end := int64(ends[max(n, 0)]); st.Size() != end {
		t.Fatalf("%s: %d bytes, not cut off at %d", what, st.Size(), end)
	}
	more := Record{First: 7, Frames: 1, Fresh: 1, Latents: []float32{7}}
	mustAppend(t, j, more)
	mustClose(t, j)
	j = mustOpen(t, dir, job)
	if j.Fresh() != "" {
		t.Fatalf("%s: does not go on: %q", what, j.Fresh())
	}
	checkRecords(t, what+", and again", rest(t, j), append(want, more))
	mustClose(t, j)
}

// places returns offsets in a journal at which to damage it: all of them with
// LIPSTREAM_LONG, because each takes several files, else those around the borders
// of header and records and every 16th, or fewer under go test -short.
func places(ends []int, size int) (list []int) {
	stride := 16
	if testing.Short() {
		stride = 64
	}
	for n := range size {
		border := slices.ContainsFunc(ends, func(end int) bool { return n >= end-1 && n <= end+1 })
		if border || n%stride == 0 || os.Getenv("LIPSTREAM_LONG") != "" {
			list = append(list, n)
		}
	}
	return list
}

func TestTruncatedAnywhere(t *testing.T) {
	b, ends := whole(t)
	for n := range len(b) + 1 { // all of them, without the files
		_, records, err := scanAll(b[:n])
		good := max(0, slices.IndexFunc(append(slices.Clone(ends), len(b)+1), func(end int) bool { return end > n })-1)
		if len(records) != good || (err == nil) != slices.Contains(ends, n) {
			t.Fatalf("%d bytes of %d: %d records, want %d; %v", n, len(b), len(records), good, err)
		}
	}
	for _, n := range places(ends, len(b)+1) {
		checkPrefix(t, fmt.Sprintf("%d bytes of %d", n, len(b)), b[:n], ends, n)
	}
}

// TestZeroedTail: after a power loss a file may have its new length, but zeros or
// the data of an older run where its data should be.
func TestZeroedTail(t *testing.T) {
	b, ends := whole(t)
	for _, n := range places(ends, len(b)+1) {
		if n < ends[0] {
			continue
		}
		good := n
		for good < len(b) && b[good] == 0 {
			good++ // zeros as they should be
		}
		zeroed := append(bytes.Clone(b[:n]), make([]byte, len(b)-n+100)...)
		checkPrefix(t, fmt.Sprintf("zeros from %d", n), zeroed, ends, good)
	}
	first := b[ends[0]:ends[1]]
	checkPrefix(t, "a record twice", append(bytes.Clone(b), first...), ends, len(b))
	swapped := bytes.Join([][]byte{b[:ends[1]], b[ends[2]:], b[ends[1]:ends[2]]}, nil)
	checkPrefix(t, "records swapped", swapped, ends, ends[1])
}

func TestFlippedAnywhere(t *testing.T) {
	b, ends := whole(t)
	for _, i := range places(ends, len(b)) {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		checkPrefix(t, fmt.Sprintf("byte %d flipped", i), flipped, ends, i)
	}
	for i := range b { // all of them, without the files
		flipped := bytes.Clone(b)
		for bit := range 8 {
			flipped[i] = b[i] ^ 1<<bit
			_, records, err := scanAll(flipped)
			good := 0
			for good < len(small()) && ends[good+1] <= i {
				good++
			}
			if len(records) != good || err == nil {
				t.Fatalf("byte %d, bit %d: %d records, want %d; %v", i, bit, len(records), good, err)
			}
		}
	}
}

// scanAll reads a journal from memory; the error is nil at its clean end.
func scanAll(b []byte) (*scanner, []Record, error) {
	s := newScanner(bytes.NewReader(b), int64(len(b)))
	if _, err := s.header(); err != nil {
		return s, nil, err
	}
	var all []Record
	for {
		r, err := s.next()
		if errors.Is(err, io.EOF) {
			return s, all, nil
		}
		if err != nil {
			return s, all, err
		}
		all = append(all, r)
	}
}

func TestLengthsAllocateNothing(t *testing.T) {
	b, ends := whole(t)
	for _, n := range []uint32{maxIdentity, maxRecord, maxRecord + 1, math.MaxUint32} {
		for _, at := range []int{12, ends[0]} {
			lie := bytes.Clone(b)
			order.PutUint32(lie[at:], n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := scanAll(lie)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("%d at %d: no error", n, at)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 512<<10 {
				t.Errorf("%d at %d: %d bytes were allocated", n, at, got)
			}
		}
	}
}

// repair corrects the checksums of any bytes, so that a fuzzer gets past them.
func repair(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < headerBytes {
		return b
	}
	copy(b, magic)
	order.PutUint32(b[8:], version)
	end := headerBytes + int(order.Uint32(b[12:]))
	if end > len(b) {
		return b
	}
	crc := recordCRC(0, b[:16], b[headerBytes:end])
	order.PutUint32(b[16:], crc)
	for len(b)-end >= frameBytes {
		n := int(order.Uint32(b[end:]))
		if n > len(b)-end-frameBytes {
			break
		}
		crc = recordCRC(crc, b[end:end+4], b[end+frameBytes:end+frameBytes+n])
		order.PutUint32(b[end+4:], crc)
		end += frameBytes + n
	}
	return b
}

func FuzzJournal(f *testing.F) {
	b, ends := whole(f)
	f.Add(b)
	f.Add(b[:ends[0]])
	f.Add(b[:len(b)-3])
	f.Add([]byte{})
	f.Add([]byte(magic))
	swollen := bytes.Clone(b)
	order.PutUint32(swollen[ends[0]+frameBytes+20:], math.MaxUint32) // latents
	f.Add(swollen)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, repair(b)} {
			s, records, err := scanAll(b)
			if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, errVersion) {
				t.Fatalf("%v", err)
			}
			if s.end == 0 {
				continue // no header
			}
			// What was read is what was written there. Other bytes may unpack to the
			// same latents, so the records are compared.
			again := bytes.Clone(b[:headerBytes+int(order.Uint32(b[12:]))])
			crc := order.Uint32(again[16:])
			for _, r := range records {
				var one []byte
				one, crc = r.encode(nil, crc)
				again = append(again, one...)
			}
			_, copies, failed := scanAll(again)
			if failed != nil || !slices.EqualFunc(records, copies, same) {
				t.Fatalf("%d records, written and read again: %d, %v", len(records), len(copies), failed)
			}
			if (err == nil) != (int(s.end) == len(b)) {
				t.Fatalf("good to %d of %d bytes, yet %v", s.end, len(b), err)
			}
		}
	})
}
