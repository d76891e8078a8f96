package checkpoint

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapFile maps the first size bytes of a file for reading. Until they are unmapped, the
// file cannot be replaced or shortened.
func mapFile(file *os.File, size int) (data []byte, unmap func() error, err error) {
	mapping, err := windows.CreateFileMapping(windows.Handle(file.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, nil, os.NewSyscallError("CreateFileMapping", err)
	}
	view, err := windows.MapViewOfFile(mapping, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	_ = windows.CloseHandle(mapping) // the view outlives it
	if err != nil {
		return nil, nil, os.NewSyscallError("MapViewOfFile", err)
	}
	data = unsafe.Slice(*(**byte)(unsafe.Pointer(&view)), size)
	return data, func() error { return os.NewSyscallError("UnmapViewOfFile", windows.UnmapViewOfFile(view)) }, nil
}

// dropPages removes a page-aligned section of a mapping from the working set. If the
// system does not do this, it only takes more memory.
func dropPages(b []byte) {
	// That is what VirtualUnlock does to pages that are not locked, and then it returns
	// ERROR_NOT_LOCKED.
	_ = windows.VirtualUnlock(uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
}
