package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

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

// rest reads the remaining records of a journal.
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

// odd returns numbers that a conversion would change.
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
