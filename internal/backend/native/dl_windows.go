package native

import (
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// keepOut makes Windows not search the working directory for libraries.
var keepOut = sync.OnceFunc(func() { _ = windows.SetDllDirectory("") })

// dlopen loads the library at path, which is absolute. Windows searches its folder, then
// those of searchPath for the libraries that it needs.
func dlopen(path string) (uintptr, error) {
	keepOut()
	h, err := windows.LoadLibraryEx(path, 0, windows.LOAD_WITH_ALTERED_SEARCH_PATH)
	return uintptr(h), err
}

// searchPath returns the folders in which Windows searches libraries.
func searchPath() []string {
	var dirs []string
	if d, err := windows.GetSystemDirectory(); err == nil {
		dirs = append(dirs, d)
	}
	if d, err := windows.GetSystemWindowsDirectory(); err == nil {
		dirs = append(dirs, d)
	}
	return append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
}

// loaded returns the path of a library that the process has loaded, or "".
func loaded(name string) string {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return ""
	}
	var h windows.Handle
	if windows.GetModuleHandleEx(windows.GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, p, &h) != nil {
		return ""
	}
	path := make([]uint16, windows.MAX_LONG_PATH)
	if _, err := windows.GetModuleFileName(h, &path[0], uint32(len(path))); err != nil {
		return ""
	}
	return windows.UTF16ToString(path)
}

// systemCRT returns the path that Microsoft's C++ runtime has if it is installed for all
// programs.
func systemCRT() string {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return ""
	}
	return filepath.Join(system, crtName)
}

// dlopenSystem searches the system's folder only.
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
