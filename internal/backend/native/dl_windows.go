package native

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// dlopen also searches the library's directory for its dependencies.
func dlopen(path string) (uintptr, error) {
	h, err := windows.LoadLibraryEx(path, 0, windows.LOAD_WITH_ALTERED_SEARCH_PATH)
	return uintptr(h), err
}

// dlopenSystem searches the system's folder only: a library in the working directory must
// not be loaded.
func dlopenSystem(name string) (uintptr, error) {
	h, err := windows.LoadLibraryEx(name, 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	return uintptr(h), err
}

func dlsym(handle uintptr, name string) (uintptr, error) {
	return windows.GetProcAddress(windows.Handle(handle), name)
}

// PathChars returns path as C functions take it on this system: in UTF-16.
func PathChars(path string) (unsafe.Pointer, error) {
	p, err := windows.UTF16PtrFromString(path)
	return unsafe.Pointer(p), err
}

// Setenv sets a variable for native libraries.
func Setenv(key, value string) { _ = os.Setenv(key, value) } // only fails for invalid names
