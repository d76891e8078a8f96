//go:build darwin || freebsd || linux || netbsd

package native

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// dlopen resolves every symbol at once (RTLD_NOW), so that a missing one is an error
// here and does not end the process later.
func dlopen(path string) (uintptr, error) {
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// dlopenSystem lets the loader search for the library.
func dlopenSystem(name string) (uintptr, error) { return dlopen(name) }

func dlsym(handle uintptr, name string) (uintptr, error) {
	return purego.Dlsym(handle, name)
}

// The following are for Windows.

func searchPath() []string { return nil }
func loaded(string) string { return "" }
func systemCRT() string    { return "" }

// PathChars returns path as C functions take it on this system.
func PathChars(path string) (unsafe.Pointer, error) {
	return unsafe.Pointer(CString(path)), nil
}

// Setenv sets a variable for native libraries: without cgo, os.Setenv does not change
// the C library's environment.
func Setenv(key, value string) {
	// int setenv(const char* name, const char* value, int overwrite);
	addr, err := purego.Dlsym(purego.RTLD_DEFAULT, "setenv")
	if err != nil || addr == 0 {
		return
	}
	var setenv func(key, value string, overwrite int32) int32
	if Register(&setenv, addr) == nil {
		setenv(key, value, 1)
	}
}
