package store

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// remote is a store whose objects have no files that others may read.
type remote struct{ dir }

func TestCache(t *testing.T) {
	d, err := newDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{b: remote{d}}
	c, err := NewCache(t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	c.limit = 10
	get := func(name string) (string, func()) {
		t.Helper()
		if err := s.Put(t.Context(), name, strings.NewReader("12345678")); err != nil {
			t.Fatal(err)
		}
		path, release, err := c.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return path, release
	}
	a, release := get("a.mp4")
	b, releaseB := get("b.mp4")
	releaseB()
	if err := os.Chtimes(b, time.Now(), time.Now().Add(-time.Minute)); err != nil { // clocks of files are coarse
		t.Fatal(err)
	}
	_, releaseC := get("c.mp4")
	releaseC()
	_, releaseD := get("d.mp4")
	defer releaseD()
	if _, err := os.Stat(a); err != nil {
		t.Errorf("what is in use was removed: %v", err)
	}
	if _, err := os.Stat(b); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the oldest is still there: %v", err)
	}
	release()
	c.Remove("a.mp4")
	if _, err := os.Stat(a); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was removed is still there: %v", err)
	}
	if _, _, err := c.Get(t.Context(), "none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
