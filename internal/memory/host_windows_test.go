package memory

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

// TestCommitted: what is committed counts. (Wine only counts what was touched.)
func TestCommitted(t *testing.T) {
	const size = 256 * mib
	self := func() int64 {
		t.Helper()
		u, err := Probe{}.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.Mapped != 0 || u.Anonymous != u.Total() || u.Self > u.Anonymous {
			t.Errorf("%+v", u)
		}
		return u.Self
	}
	before := self()
	block, err := windows.VirtualAlloc(0, size, windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		t.Fatal(err)
	}
	clear(unsafe.Slice(*(**byte)(unsafe.Pointer(&block)), size))
	if grown := self() - before; grown < size || grown > size+size/4 {
		t.Errorf("%s more for %s", Size(grown), Size(size))
	}
	if err := windows.VirtualFree(block, 0, windows.MEM_RELEASE); err != nil {
		t.Fatal(err)
	}
	if grown := self() - before; grown > size/4 {
		t.Errorf("%s more after the end", Size(grown))
	}
	if f := SelfStatus(); len(f) != 0 {
		t.Errorf("/proc is read: %v", f)
	}
}
