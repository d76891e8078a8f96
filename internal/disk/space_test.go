package disk

import (
	"path/filepath"
	"testing"
)

func TestSpace(t *testing.T) {
	dir := t.TempDir()
	at, err := Existing(filepath.Join(dir, "a", "b"))
	if err != nil || at != dir {
		t.Fatalf("the nearest folder is %q, want %q; %v", at, dir, err)
	}
	if free, err := Free(at); err != nil || free <= 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
	one, err := Volume(dir)
	if err != nil || one == "" {
		t.Fatalf("volume %q, %v", one, err)
	}
	if other, err := Volume(t.TempDir()); err != nil || other != one {
		t.Errorf("two folders on one disk have the volumes %q and %q, %v", one, other, err)
	}
	if _, err := Volume(filepath.Join(dir, "missing\x00")); err == nil {
		t.Error("a path that cannot exist has a volume")
	}
}
