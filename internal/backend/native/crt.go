package native

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// crtName is the part of Microsoft's C++ runtime whose version counts.
const crtName = "msvcp140.dll"

// minCRT is the oldest C++ runtime with which ONNX Runtime works. With an older one, its
// first mutex ends the process: https://github.com/microsoft/STL/issues/4730.
var minCRT = version{14, 40}

// isCRT reports whether a library belongs to Microsoft's C++ runtime.
func isCRT(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "msvcp140") || strings.HasPrefix(name, "vcruntime140")
}

// crtHint says how to get Microsoft's C++ runtime.
func crtHint() string {
	arch := map[string]string{"arm64": "arm64"}[runtime.GOARCH]
	if arch == "" {
		arch = "x64"
	}
	return "install Microsoft's C++ runtime, with: lipstream runtime install onnxruntime, or: winget install Microsoft.VCRedist.2015+." + arch
}

// UseCRT loads the given files of Microsoft's C++ runtime, in this order, if they are newer
// than those of the system, and if the process has none yet. Libraries that are loaded
// later use them: Windows does not load two libraries of the same name. On other systems
// UseCRT does nothing.
func UseCRT(files []string) {
	system := systemCRT()
	if system == "" || loaded(crtName) != "" || !newerCRT(files, system) {
		return
	}
	for _, f := range files {
		if _, err := Open(f, ""); err != nil {
			return // the libraries that need it report what is missing
		}
	}
}

// CheckCRT returns an error if ONNX Runtime's library at path would use a C++ runtime that
// is too old, or if none is installed: the one that the process has loaded, that beside
// the library, or the system's. On other systems than Windows it returns nil.
func CheckCRT(path string) error {
	system := systemCRT()
	if system == "" {
		return nil
	}
	for _, at := range []string{loaded(crtName), filepath.Join(filepath.Dir(path), crtName), system} {
		if at != "" && exists(at) {
			return checkCRT(at)
		}
	}
	return fault.Missing.New("load library "+path, "Microsoft's C++ runtime is not installed: "+crtName+" was not found", crtHint())
}

// checkCRT returns an error if the C++ runtime at path is too old for ONNX Runtime.
func checkCRT(path string) error {
	const op = "use Microsoft's C++ runtime "
	v, err := fileVersion(path)
	if err != nil {
		return fault.Missing.Wrap(op+path, err, crtHint())
	}
	if slices.Compare(v[:], minCRT[:]) < 0 {
		return fault.Missing.New(op+path, fmt.Sprintf("its version is %s, and ONNX Runtime needs %d.%d or newer", v, minCRT[0], minCRT[1]), crtHint())
	}
	return nil
}

// newerCRT reports whether files, of a C++ runtime, are newer than the one at installed.
func newerCRT(files []string, installed string) bool {
	at := slices.IndexFunc(files, func(f string) bool { return strings.EqualFold(filepath.Base(f), crtName) })
	if at < 0 {
		return false
	}
	ours, err := fileVersion(files[at])
	if err != nil {
		return false
	}
	theirs, err := fileVersion(installed)
	return err != nil || slices.Compare(theirs[:], ours[:]) < 0
}
