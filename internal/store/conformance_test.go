package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lipstream/lipstream/internal/store"
)

// conform tests a store that is empty.
func conform(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	content := make([]byte, 20<<20) // more than a part of any store
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	put := func(name string, b []byte) {
		t.Helper()
		// A reader of unknown length, like that of an upload.
		err := s.Put(ctx, name, struct{ io.Reader }{bytes.NewReader(b)})
		if i, statErr := s.Stat(ctx, name); errors.Join(err, statErr) != nil || i.Size != int64(len(b)) || i.Name != name {
			t.Fatalf("put %s: %+v, %v", name, i, errors.Join(err, statErr))
		}
	}
	get := func(name string, want []byte) {
		t.Helper()
		r, i, err := s.Open(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, want) || i.Size != int64(len(want)) {
			t.Fatalf("%s: %d bytes of %d, %v", name, len(b), len(want), err)
		}
	}
	put("jobs/a/part-0001", content)
	put("jobs/a/part-0000", nil)
	put("jobs/b/result.mp4", []byte("old"))
	put("jobs/b/result.mp4", []byte("new"))
	get("jobs/a/part-0001", content)
	get("jobs/a/part-0000", nil)
	get("jobs/b/result.mp4", []byte("new"))

	list, err := s.List(ctx, "jobs/a/")
	if err != nil || len(list) != 2 || list[0].Name != "jobs/a/part-0000" || list[1].Size != int64(len(content)) || list[1].Modified.IsZero() {
		t.Errorf("list: %+v, %v", list, err)
	}
	if all, err := s.List(ctx, ""); err != nil || len(all) != 3 {
		t.Errorf("list all: %+v, %v", all, err)
	}

	// A copy of an object that is replaced meanwhile is the old one or the new one.
	versions := [][]byte{content[:1<<20], content[1<<20 : 3<<20]}
	put("jobs/d/often", versions[0])
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 6 {
			if err := s.Put(ctx, "jobs/d/often", bytes.NewReader(versions[i%2])); err != nil {
				t.Error(err)
			}
		}
	})
	copied := filepath.Join(t.TempDir(), "copy")
	for range 6 {
		if err := s.Fetch(ctx, "jobs/d/often", copied); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(copied); err != nil || !bytes.Equal(b, versions[0]) && !bytes.Equal(b, versions[1]) {
			t.Fatalf("a copy of %d bytes that is neither the old nor the new object, %v", len(b), err)
		}
	}
	writer.Wait()
	if err := s.Delete(ctx, "jobs/d/often"); err != nil {
		t.Error(err)
	}

	// A reader that fails in the middle leaves the old object, or none.
	broken := func() io.Reader {
		return io.MultiReader(bytes.NewReader(content[:18<<20]), failing{})
	}
	for _, name := range []string{"jobs/b/result.mp4", "jobs/c/never"} {
		if err := s.Put(ctx, name, broken()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	get("jobs/b/result.mp4", []byte("new"))
	missing := func(name string) {
		t.Helper()
		if _, _, err := s.Open(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v", name, err)
		}
		if _, err := s.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v", name, err)
		}
	}
	missing("jobs/c/never")

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(cancelled, "jobs/c/cancelled", bytes.NewReader(content)); err == nil {
		t.Error("put goes on after its context")
	}
	missing("jobs/c/cancelled")

	for _, name := range []string{"", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "A", "a b", "a/", strings.Repeat("a", 201), "ä"} {
		if err := s.Put(ctx, name, strings.NewReader("x")); err == nil {
			t.Errorf("the name %q is taken", name)
		}
		if s.Path(name) != "" {
			t.Errorf("the name %q has a path", name)
		}
	}
	for _, name := range []string{"jobs/a/part-0000", "jobs/a/part-0001", "jobs/b/result.mp4", "jobs/b/result.mp4"} {
		if err := s.Delete(ctx, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	missing("jobs/a/part-0001")
	if all, err := s.List(ctx, ""); err != nil || len(all) != 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the sender went away") }

// conformReplaced checks that an object that is replaced while it is read is the old one,
// or an error.
func conformReplaced(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	content := bytes.Repeat([]byte("old"), 5<<20)
	if err := s.Put(ctx, "replaced", bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Open(ctx, "replaced")
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1000)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, "replaced", strings.NewReader("new")); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err == nil && !bytes.Equal(append(first, rest...), content) {
		t.Errorf("%d bytes that are not the old object", len(first)+len(rest))
	}
	if err := errors.Join(r.Close(), s.Delete(ctx, "replaced")); err != nil {
		t.Error(err)
	}
}
