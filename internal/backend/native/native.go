// Package native opens shared libraries without cgo. A file that is not a complete
// library for this machine results in an error, never in a crash. The package also
// contains what both bindings share.
package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/lipstream/lipstream/internal/fault"
)

// Library is an opened shared library. It is never closed, because inference
// libraries start threads and register exit handlers, which crash the process when
// the library is unloaded.
type Library struct {
	path   string
	handle uintptr
}

// Open checks the file at path and loads it. Errors have the hint, which should say
// how to get a working library.
func Open(path, hint string) (*Library, error) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if err := CheckFile(path); err != nil {
		return nil, fault.Missing.Wrap("load library "+path, err, hint)
	}
	h, err := dlopen(path)
	if err != nil {
		err = explain(path, err)
		if m, ok := errors.AsType[*MissingError](err); ok && slices.ContainsFunc(m.Names, isCRT) {
			hint = crtHint()
		}
		return nil, fault.Missing.Wrap("load library "+path, err, hint)
	}
	return &Library{path: path, handle: h}, nil
}

// OpenSystem loads a library by the name under which the system's loader finds it, such
// as a driver's.
func OpenSystem(name string) (*Library, error) {
	h, err := dlopenSystem(name)
	if err != nil {
		return nil, err
	}
	return &Library{path: name, handle: h}, nil
}

// Path returns the path of the library.
func (l *Library) Path() string { return l.path }

// Func is one C function to bind: its symbol and a pointer to the Go function
// variable that will call it.
type Func struct {
	Name string
	Ptr  any
}

// maxNamed bounds how many missing functions an error names.
const maxNamed = 4

// Bind looks up all functions, and reports those that are missing in one error.
func (l *Library) Bind(hint string, funcs ...Func) error {
	var missing []string
	for _, f := range funcs {
		addr, err := dlsym(l.handle, f.Name)
		if err != nil || addr == 0 {
			missing = append(missing, f.Name)
			continue
		}
		if err := Register(f.Ptr, addr); err != nil {
			return fault.Internal.Wrap("bind "+f.Name+" of "+l.path, err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if more := len(missing) - maxNamed; more > 0 {
		missing = append(missing[:maxNamed], fmt.Sprintf("%d more", more))
	}
	return fault.Missing.New("load library "+l.path, "it lacks "+strings.Join(missing, ", ")+"; it is another version or another library", hint)
}

// Register makes *fptr call the C function at addr. It returns an error for a Go
// signature for which purego panics, because it cannot call it on this machine.
func Register(fptr any, addr uintptr) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v (signature %v, %s/%s)", r, reflect.TypeOf(fptr).Elem(), runtime.GOOS, runtime.GOARCH)
		}
	}()
	purego.RegisterFunc(fptr, addr)
	return nil
}

// CheckFile returns an error if path is not a complete shared library for this
// machine. Linux's loader maps truncated files, and the process then dies with SIGBUS at
// the first missing page.
func CheckFile(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fault.WithoutPath(err) // the caller adds it
	}
	if !st.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	return checkFormat(path, st.Size())
}

// libraryNames are the patterns of the names of shared libraries, by system. On macOS,
// plugins end in ".so".
var libraryNames = map[string][]string{"windows": {"*.dll"}, "darwin": {"*.dylib", "*.so"}, "linux": {"*.so", "*.so.*"}}

// CheckDir checks every shared library in dir, for runtimes that load plugins from
// their folder. A dangling symbolic link is an error too: broken copies have them.
func CheckDir(dir, hint string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Missing.Wrap("list "+dir, fault.WithoutPath(err), hint)
	}
	for _, e := range entries {
		if !slices.ContainsFunc(libraryNames[runtime.GOOS], func(pattern string) bool {
			ok, _ := filepath.Match(pattern, e.Name()) // the patterns are valid
			return ok
		}) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := CheckFile(path); err != nil {
			return fault.Missing.Wrap("load library "+path, err, hint)
		}
	}
	return nil
}

// CString returns a copy of s that ends with a zero.
func CString(s string) *byte {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return &b[0]
}

// GoString returns a copy of the zero-terminated text at p, or "" for nil.
func GoString(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}
