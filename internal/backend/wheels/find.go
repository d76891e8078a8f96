package wheels

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/fault"
)

// DirVariable is the environment variable with the folder of the libraries to use. If
// it is set, no other folders are searched.
const DirVariable = "LIPSTREAM_RUNTIME_DIR"

// Library is a library that was found on the machine.
type Library struct {
	Runtime string // the name in the table
	Path    string
	Source  string // where it came from, such as "Python package"
	// Needed are the paths of the libraries to load before it, in this order.
	Needed []string
	// Missing are the packages whose libraries were not found. The system may still
	// have them where its loader searches.
	Missing []string
	// CRT are the paths of Microsoft's C++ runtime, for native.UseCRT; none if it is not
	// installed by Lipstream.
	CRT []string
}

// CUDA reports whether the library is for NVIDIA's GPUs.
func (l Library) CUDA() bool { return l.Runtime == CUDA13 || l.Runtime == CUDA12 }

// Find returns the first candidate for the named runtime; see Candidates.
func Find(ctx context.Context, name string) (Library, error) {
	r, err := Named(name)
	if err != nil {
		return Library{}, err
	}
	list, err := find(ctx, name, r)
	if err != nil {
		return Library{}, err
	}
	return list[0], nil
}

// Candidates returns the libraries for the named backend in the order in which to try
// them: those in the folder in LIPSTREAM_RUNTIME_DIR if it is set, else those that
// Install has installed, else those of Python packages. On a machine with an NVIDIA
// driver, builds with CUDA come first.
func Candidates(ctx context.Context, name string) ([]Library, error) {
	var all []Runtime
	gpu := 0 // where the next runtime for a GPU goes
	for _, r := range table {
		switch {
		case r.Backend != name || r.plugin:
		case r.cuda != "" && haveNVIDIA():
			all = slices.Insert(all, gpu, r)
			gpu++
		default:
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return nil, fault.Field("backend", name, "is not known", "choose one of openvino, onnxruntime")
	}
	return find(ctx, name, all...)
}

// find returns the libraries of the runtimes, or an error if there is none. It runs
// Python only if nothing else is found, because that takes longer than all the rest.
func find(ctx context.Context, name string, runtimes ...Runtime) ([]Library, error) {
	var list []Library
	python := sync.OnceValue(func() map[string][]string { return pythonPackages(ctx) })
	add := func(r Runtime, source string, dirs ...string) {
		for _, d := range dirs {
			path := r.libraryIn(d)
			if path == "" || slices.ContainsFunc(list, func(l Library) bool { return l.Path == path }) {
				continue
			}
			l := Library{Runtime: r.Name, Path: path, Source: source}
			r.complete(&l, d, python)
			list = append(list, l)
			return
		}
	}
	given := os.Getenv(DirVariable)
	for _, r := range runtimes {
		dirs, source := r.Packages[0].own()
		add(r, source, dirs...)
	}
	if given != "" && len(list) == 0 {
		return nil, notGiven(name, given)
	}
	if len(list) == 0 {
		for _, r := range runtimes {
			add(r, "Python package", r.Packages[0].inPython(python())...)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.Cancelled.Wrap("find the runtime "+name, err)
	}
	if len(list) == 0 {
		cause := "it is not installed"
		if r, err := Named(name); err == nil && !r.Available() {
			cause += ", and " + archive.NoBuild(thisPlatform)
		}
		return nil, fault.Missing.New("find the runtime "+name, cause, installHint(name))
	}
	return list, nil
}

// complete adds to the library in dir those that it needs, and the packages whose libraries
// were not found. It searches dir, the folder in LIPSTREAM_RUNTIME_DIR, the installations
// of Install and Python packages, such as those of PyTorch.
func (r Runtime) complete(l *Library, dir string, python func() map[string][]string) {
	for _, p := range r.Packages[1:] {
		own, _ := p.own()
		found := p.all(append([]string{dir}, own...))
		if p.crt {
			l.CRT = found
			continue
		}
		if found == nil && !p.fixed {
			found = p.all(p.inPython(python()))
		}
		if found == nil {
			l.Missing = append(l.Missing, p.Project)
		}
		l.Needed = append(l.Needed, found...)
	}
}

// all returns the paths of the needed libraries in the first of the folders that has
// them all, or nil.
func (p Package) all(dirs []string) []string {
	for _, d := range dirs {
		var paths []string
		complete := true
		for _, l := range p.needed {
			found := libraries(d, l)
			complete = complete && len(found) > 0
			paths = append(paths, found...)
		}
		if complete {
			return paths
		}
	}
	return nil
}

// GivenHint is the hint for a folder in LIPSTREAM_RUNTIME_DIR without a working
// library.
const GivenHint = "set " + DirVariable + " to a folder with a working library, or unset it"

// notGiven returns the error for a folder in LIPSTREAM_RUNTIME_DIR without the
// runtime.
func notGiven(name, dir string) error {
	cause := "it is not in the folder " + dir + ", which " + DirVariable + " names"
	if _, err := os.ReadDir(dir); err != nil {
		cause = "the folder in " + DirVariable + " cannot be read: " + err.Error()
	}
	return fault.Missing.New("find the runtime "+name, cause, GivenHint)
}

// own returns where a package can be apart from Python environments, and the source to
// name: the folder in LIPSTREAM_RUNTIME_DIR if it is set, else that of Install.
func (p Package) own() (dirs []string, source string) {
	if given := os.Getenv(DirVariable); given != "" {
		return p.inFolder(given), DirVariable
	}
	if dir, err := p.archive().Dir(); err == nil {
		dirs = []string{dir}
	}
	return dirs, "installed by Lipstream"
}

// inFolder returns where a package can be in the folder that the user has set: a folder of
// libraries, of installations or of Python packages.
func (p Package) inFolder(dir string) []string {
	dirs := []string{dir, filepath.Join(dir, p.archive().Folder())}
	for _, at := range p.places {
		dirs = append(dirs, filepath.Join(dir, at.module, at.folder), filepath.Join(dir, at.folder))
	}
	return append(dirs, filepath.Join(dir, "lib"))
}

// inPython returns where a package can be in a Python environment, whose modules are in
// the given folders.
func (p Package) inPython(modules map[string][]string) (dirs []string) {
	for _, at := range p.places {
		for _, d := range modules[at.module] {
			dirs = append(dirs, filepath.Join(d, at.folder))
		}
	}
	return dirs
}

// libraryIn returns the path of the runtime's library in dir, or "".
func (r Runtime) libraryIn(dir string) string {
	if r.cuda != "" && cudaProvider(dir, r.cuda) == "" {
		return ""
	}
	return anyLibrary(dir, library{stem: r.library})
}

// matches reports whether a file name is that of the library on a system, in any version
// if l has none.
func (l library) matches(goos, name string) bool {
	var patterns []string
	switch goos {
	case "darwin":
		patterns = []string{"lib" + l.stem + ".dylib", "lib" + l.stem + ".*.dylib"}
		if l.version != "" {
			patterns = []string{"lib" + l.stem + "." + l.version + ".dylib", "lib" + l.stem + "." + l.version + ".*.dylib"}
		}
	case "windows":
		name, l.stem = strings.ToLower(name), strings.ToLower(l.stem)
		patterns = []string{l.stem + ".dll"}
		if l.version != "" { // cudart64_13.dll, nvrtc64_130_0.dll but not nvrtc64_130_0.alt.dll, tensorrt_rtx_1_7.dll
			patterns = []string{l.stem + "64_" + l.version + ".dll", l.stem + "64_" + l.version + "*[0-9].dll", l.stem + "_" + l.version + "_*.dll"}
		}
	default:
		patterns = []string{"lib" + l.stem + ".so", "lib" + l.stem + ".so.*"}
		if l.version != "" {
			patterns = []string{"lib" + l.stem + ".so." + l.version, "lib" + l.stem + ".so." + l.version + ".*"}
		}
	}
	return archive.Matches(name, patterns)
}

// libraries returns the paths of the shared libraries in dir that l names: one, or all if
// it is a pattern. Of several names of one library the longest counts, because shorter
// names are links to it.
func libraries(dir string, l library) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !l.matches(runtime.GOOS, e.Name()) {
			continue
		}
		if path := filepath.Join(dir, e.Name()); strings.Contains(l.stem, "*") || len(names) == 0 {
			names = append(names, path)
		} else if len(path) > len(names[0]) {
			names[0] = path
		}
	}
	return names
}

// anyLibrary returns the path of a shared library in dir, or "".
func anyLibrary(dir string, l library) string {
	if found := libraries(dir, l); len(found) > 0 {
		return found[0]
	}
	return ""
}

// pythonTime is how long Python may take to print where its packages are.
const pythonTime = 5 * time.Second

const maxPaths = 1 << 20 // bytes that it may print

// findScript prints the names and folders of the modules with libraries, without
// importing them. With -c, Python searches the working directory first. A module there
// must not be found.
const findScript = `import sys
sys.path = [p for p in sys.path if p]
import importlib.util
for name in sys.argv[1:]:
    s = importlib.util.find_spec(name)
    for p in (s.submodule_search_locations or [] if s else []):
        print(name + "\t" + p)
`

// PythonVariable is the environment variable with the path of the Python whose packages
// are searched. The ComfyUI nodes set it to ComfyUI's own.
const PythonVariable = "LIPSTREAM_PYTHON"

// pythonPackages returns the folders of the modules of the table in the machine's Python
// environment. A Python that is missing, broken or slow has none.
func pythonPackages(ctx context.Context) map[string][]string {
	names := []string{"python3", "python"}
	if runtime.GOOS == "windows" {
		names = []string{"python", "py"}
	}
	if given := os.Getenv(PythonVariable); given != "" {
		names = []string{given}
	}
	// Windows' Python prints paths in the encoding of the system's language, unless told otherwise.
	args := []string{"-X", "utf8", "-c", findScript}
	for _, r := range table {
		for _, p := range r.Packages {
			for _, at := range p.places {
				if !slices.Contains(args[4:], at.module) {
					args = append(args, at.module)
				}
			}
		}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, pythonTime)
		cmd := exec.Command(path, args...)
		// An empty entry of PYTHONPATH stands for the working directory.
		cmd.Dir = filepath.VolumeName(path) + string(filepath.Separator)
		out, err := child.Output(ctx, cmd, 0, maxPaths)
		cancel()
		if err != nil {
			continue
		}
		dirs := map[string][]string{}
		for line := range strings.Lines(string(out)) {
			module, d, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if filepath.IsAbs(d) {
				dirs[module] = append(dirs[module], d)
			}
		}
		return dirs
	}
	return nil
}
