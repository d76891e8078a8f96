// Command libraries checks that the native libraries in Python wheels can be loaded and
// bound, for systems on which the program cannot be run here: each needs only libraries
// that the wheel or the system has, finds them beside itself, and exports the functions
// that the bindings call.
//
//	go run ./tools/libraries WHEEL...
//
// It prints which files of a wheel are needed.
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// runtimes are the libraries that the program loads, and those that they load by name: the
// stems of their files. The first exports the functions.
var runtimes = []struct {
	folder, source string // in the wheel, and of the binding
	stems          []string
	optional       string // loaded if possible: TBB's binding to processor cores
}{
	{"openvino/libs", "internal/backend/openvino/api.go", []string{"openvino_c", "openvino_onnx_frontend", "openvino_ir_frontend",
		"openvino_intel_cpu_plugin", "openvino_arm_cpu_plugin", "openvino_intel_gpu_plugin"}, "tbbbind_2_5"},
	{"onnxruntime/capi", "internal/backend/onnxruntime/api.go", []string{"onnxruntime", "onnxruntime_providers_shared"}, ""},
}

func main() {
	bad := false
	for _, wheel := range os.Args[1:] {
		problems, err := check(wheel)
		if err != nil {
			problems = append(problems, err.Error())
		}
		for _, p := range problems {
			fmt.Println("  wrong:", p)
		}
		bad = bad || len(problems) > 0
	}
	if bad {
		os.Exit(1)
	}
}

func check(wheel string) (problems []string, err error) {
	fmt.Println(filepath.Base(wheel))
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	for _, r := range runtimes {
		folder, err := read(&z.Reader, r.folder)
		if err != nil {
			return nil, err
		}
		if len(folder) == 0 {
			continue
		}
		names, optional := named(folder, r.stems...), named(folder, r.optional)
		if len(names) == 0 || stemOf(names[0]) != r.stems[0] {
			return nil, fmt.Errorf("there is no library %s in %s", r.stems[0], r.folder)
		}
		functions, err := bound(r.source)
		if err != nil {
			return nil, err
		}
		for _, f := range functions {
			if !folder[names[0]].exports[f] {
				problems = append(problems, names[0]+" does not export "+f)
			}
		}
		needed, more := closure(folder, names)
		fmt.Printf("  %s exports %d functions; needed:\n    %s\n", names[0], len(functions), strings.Join(needed, "\n    "))
		if needed, without := closure(folder, optional); len(without) > 0 {
			fmt.Printf("  not loaded: %s\n", strings.Join(without, ", "))
		} else if len(needed) > 0 {
			fmt.Printf("  optional: %s\n", strings.Join(needed, " "))
		}
		return append(problems, more...), nil
	}
	return nil, errors.New("it has no library of a runtime")
}

// named returns the libraries with these stems, in their order.
func named(folder map[string]library, stems ...string) (names []string) {
	for _, stem := range stems {
		for name := range folder {
			if stemOf(name) == stem {
				names = append(names, name)
			}
		}
	}
	return names
}

// read parses the shared libraries in a folder of a wheel.
func read(z *zip.Reader, folder string) (map[string]library, error) {
	found := map[string]library{}
	for _, f := range z.File {
		name := path.Base(f.Name)
		if path.Dir(f.Name) != folder || stemOf(name) == "" {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		if found[name], err = parse(data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return found, nil
}

var (
	libraryName = regexp.MustCompile(`^(?:lib)?(\w+?)(?:\.[0-9.]*dylib|\.dll|\.so[0-9.]*)$`)
	boundName   = regexp.MustCompile(`Name: +"(\w+)"`)
)

// stemOf returns "openvino_c" for libopenvino_c.so.2641, libopenvino_c.2641.dylib and
// openvino_c.dll, or "" if the name is not one of a library.
func stemOf(name string) string {
	if m := libraryName.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return ""
}

// bound lists the functions that a binding looks up: the names of its native.Funcs.
func bound(source string) ([]string, error) {
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range boundName.FindAllSubmatch(text, -1) {
		if name := string(m[1]); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, errors.New(source + " binds no function")
	}
	return names, nil
}
