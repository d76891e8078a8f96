package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

var job = Identity{"video": "/a/b.mp4 1000 bytes", "steps": "20", "version": "0.5 <dev>"}

func mustOpen(t *testing.T, dir string, id Identity) *Journal {
	t.Helper()
	j, err := Open(dir, "key", id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// rest reads what is left of a journal.
func rest(t *testing.T, j *Journal) []Record {
	t.Helper()
	var all []Record
	for {
		r, ok, err := j.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, r)
	}
}

func mustAppend(t *testing.T, j *Journal, records ...Record) {
	t.Helper()
	for _, r := range records {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

func mustClose(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// same compares records bit for bit: NaN differs from itself as a number.
func same(a, b Record) bool {
	if a.First != b.First || a.Frames != b.Frames || a.Fresh != b.Fresh ||
		!bytes.Equal(a.Plan, b.Plan) || len(a.Latents) != len(b.Latents) {
		return false
	}
	for i := range a.Latents {
		if math.Float32bits(a.Latents[i]) != math.Float32bits(b.Latents[i]) {
			return false
		}
	}
	return true
}

func checkRecords(t *testing.T, what string, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !same(got[i], want[i]) {
			t.Fatalf("%s: record %d is %+v, want %+v", what, i, got[i], want[i])
		}
	}
}

// odd are numbers that a conversion on the way would change.
func odd() []float32 {
	var f []float32
	for _, bits := range []uint32{0, 1 << 31, 1, 0x7f800000, 0xff800000, 0x7f800001, 0xffc12345, 0x7fffffff, 0x3f800001} {
		f = append(f, math.Float32frombits(bits))
	}
	return f
}

func small() []Record {
	return []Record{
		{First: 0, Frames: 16, Fresh: 16, Plan: []byte(`{"windows":2}`), Latents: odd()},
		{First: 12, Frames: 16, Fresh: 12},
		{First: 1 << 40, Frames: 8, Fresh: 0, Latents: []float32{-1.5}},
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	want := small()
	j := mustOpen(t, dir, job)
	if j.Fresh() != "none" {
		t.Errorf("fresh %q", j.Fresh())
	}
	mustAppend(t, j, want[0])
	checkRecords(t, "own records", rest(t, j), nil)
	mustClose(t, j)
	for n := 1; n < len(want); n++ { // one more in each run
		j = mustOpen(t, dir, job)
		if j.Fresh() != "" {
			t.Errorf("fresh %q", j.Fresh())
		}
		if err := j.Append(want[n]); fault.KindOf(err) != fault.Internal {
			t.Errorf("appended before reading: %v", err)
		}
		checkRecords(t, "again", rest(t, j), want[:n])
		mustAppend(t, j, want[n])
		mustClose(t, j)
	}
	j = mustOpen(t, dir, job)
	checkRecords(t, "at last", rest(t, j), want)
	if runtime.GOOS != "windows" {
		checkMode(t, filepath.Join(dir, "key"), fs.ModeDir|0o700)
		for _, name := range []string{lockName, journalName, notesName} {
			checkMode(t, filepath.Join(dir, "key", name), 0o600)
		}
	}
}

func checkMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != want {
		t.Errorf("%s has mode %v, want %v", path, st.Mode(), want)
	}
}

func TestLargeRecord(t *testing.T) {
	dir := t.TempDir()
	want := Record{First: 12, Frames: 16, Fresh: 12, Latents: make([]float32, 16*4*64*64)}
	for i := range want.Latents {
		want.Latents[i] = float32(i) / 3
	}
	j := mustOpen(t, dir, job)
	mustAppend(t, j, want, want)
	mustClose(t, j)
	j = mustOpen(t, dir, job)
	checkRecords(t, "large", rest(t, j), []Record{want, want})
}

func TestBadRecords(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, job)
	for _, r := range []Record{
		{First: -1}, {Frames: -1}, {Fresh: -1}, {Frames: 8, Fresh: 9}, {Plan: []byte("{")},
		{Latents: make([]float32, maxRecord/4)},
	} {
		if err := j.Append(r); fault.KindOf(err) != fault.Internal {
			t.Errorf("first %d, %d frames, %d fresh, plan %q, %d numbers: %v", r.First, r.Frames, r.Fresh, r.Plan, len(r.Latents), err)
		}
	}
	mustAppend(t, j, small()...)
	mustClose(t, j)
	checkRecords(t, "after refusals", rest(t, mustOpen(t, dir, job)), small())
}

func TestIdentity(t *testing.T) {
	change := func(set func(Identity)) Identity {
		id := Identity{}
		for name, value := range job {
			id[name] = value
		}
		set(id)
		return id
	}
	for _, c := range []struct {
		id    Identity
		fresh string
	}{
		{change(func(Identity) {}), ""},
		{change(func(id Identity) { id["steps"] = "10" }), "other job: steps"},
		{change(func(id Identity) { delete(id, "video"); id["audio"] = "" }), "other job: audio, video"},
		{nil, "other job: steps, version, video"},
	} {
		dir := t.TempDir()
		j := mustOpen(t, dir, job)
		mustAppend(t, j, small()...)
		mustClose(t, j)
		j = mustOpen(t, dir, c.id)
		if j.Fresh() != c.fresh {
			t.Errorf("%v: fresh %q, want %q", c.id, j.Fresh(), c.fresh)
		}
		want := small()
		if c.fresh != "" {
			want = nil
		}
		checkRecords(t, c.fresh, rest(t, j), want)
		mustClose(t, j)
		if j = mustOpen(t, dir, c.id); j.Fresh() != "" {
			t.Errorf("%v: not this job's now: %q", c.id, j.Fresh())
		}
	}
}

// TestIdentityExact: paths need not be UTF-8, and JSON would make them equal.
func TestIdentityExact(t *testing.T) {
	seen := map[string]string{}
	for _, path := range []string{"a\xff", "a\xfe", "a\ufffd", `"a\xff"`, `"\"a\\xff\""`, "a", `"a"`, ""} {
		b, err := Identity{"video": path}.encode()
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b) {
			t.Errorf("%q: not JSON: %s", path, b)
		}
		if other, ok := seen[string(b)]; ok {
			t.Errorf("%q and %q are the same: %s", other, path, b)
		}
		seen[string(b)] = path
	}
	if b, _ := job.encode(); !strings.Contains(string(b), `"version": "0.5 <dev>"`) {
		t.Errorf("cannot be read: %s", b)
	}
	if _, err := Open(t.TempDir(), "key", Identity{"a": strings.Repeat("x", maxIdentity)}); fault.KindOf(err) != fault.Internal {
		t.Errorf("identity without bounds: %v", err)
	}
}

func TestOtherVersion(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, job))
	edit(t, filepath.Join(dir, "key", journalName), func(b []byte) []byte { b[8]++; return b })
	if j := mustOpen(t, dir, job); j.Fresh() != "other job: format of the journal" {
		t.Errorf("fresh %q", j.Fresh())
	}
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// whole gives the bytes of a journal of small() and the offset behind the
// header and behind each record.
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

// checkPrefix opens a journal with these bytes: it has exactly the records
// whose ends lie at or before good, and goes on.
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

func TestTruncatedAnywhere(t *testing.T) {
	b, ends := whole(t)
	for n := range len(b) + 1 {
		checkPrefix(t, fmt.Sprintf("%d bytes of %d", n, len(b)), b[:n], ends, n)
	}
}

// TestZeroedTail: after a power loss a file may have its new length, but
// zeros where data should be; or an older run's data.
func TestZeroedTail(t *testing.T) {
	b, ends := whole(t)
	for n := ends[0]; n <= len(b); n++ {
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
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		checkPrefix(t, fmt.Sprintf("byte %d flipped", i), flipped, ends, i)
		for bit := range 8 { // all of them, without the files
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

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	for _, key := range []string{"", ".", "..", "a/b", `a\b`, "a.b", strings.Repeat("k", 129)} {
		if _, err := Open(dir, key, job); fault.KindOf(err) != fault.Internal {
			t.Errorf("key %q: %v", key, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "missing"), "key", job); fault.KindOf(err) != fault.Output || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "file", job); fault.KindOf(err) != fault.Output {
		t.Errorf("a file instead of the folder: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("refusals left something: %v, %v", entries, err)
	}
}

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
		t.Errorf("%s: %v, there should be %v", path, err, want)
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

	// What another hand wrote there, and what changed its nature since.
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

	// Done once: a later file of this name is somebody else's.
	if err := os.WriteFile(good[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, job))
	checkThere(t, true, good[0])
}

// TestNoteAfterTornLine: a note behind a torn one, which an output that could
// not be removed has kept, counts.
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
	if err := Sweep(filepath.Join(dir, "file"), 0); fault.KindOf(err) != fault.Output {
		t.Errorf("a file was swept: %v", err)
	}
}

// repair sets the checksums of foreign bytes right, so that a fuzzer gets
// behind them.
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
			// What was read is what was written there, byte for byte.
			again := bytes.Clone(b[:headerBytes+int(order.Uint32(b[12:]))])
			crc := order.Uint32(again[16:])
			for _, r := range records {
				var one []byte
				one, crc = r.encode(nil, crc)
				again = append(again, one...)
			}
			if !bytes.Equal(again, b[:s.end]) {
				t.Fatalf("read %d bytes that do not encode to themselves", s.end)
			}
			if (err == nil) != (int(s.end) == len(b)) {
				t.Fatalf("good to %d of %d bytes, yet %v", s.end, len(b), err)
			}
		}
	})
}
