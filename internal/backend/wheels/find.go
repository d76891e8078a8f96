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

	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/disk"
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
			l.Needed, l.Missing = r.needed(d, python)
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
		return nil, fault.Missing.New("find the runtime "+name, "it is not installed", "run: lipstream runtime install "+name)
	}
	return list, nil
}

// needed returns the libraries that r needs besides the one in dir, and the packages
// whose libraries were not found. It searches dir, the folder in LIPSTREAM_RUNTIME_DIR,
// the installations of Install and Python packages, such as those of PyTorch.
func (r Runtime) needed(dir string, python func() map[string][]string) (paths, missing []string) {
	for _, p := range r.Packages[1:] {
		own, _ := p.own()
		found := p.all(append([]string{dir}, own...))
		if found == nil {
			found = p.all(p.inPython(python()))
		}
		if found == nil {
			missing = append(missing, p.Project)
		}
		paths = append(paths, found...)
	}
	return paths, missing
}

// all returns the paths of the needed libraries in the first of the folders that has
// them all, or nil.
func (p Package) all(dirs []string) []string {
	for _, d := range dirs {
		var paths []string
		for _, l := range p.needed {
			if path := anyLibrary(d, l); path != "" {
				paths = append(paths, path)
			}
		}
		if len(paths) == len(p.needed) {
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
	if dir, err := p.dir(); err == nil {
		dirs = []string{dir}
	}
	return dirs, "installed by Lipstream"
}

// inFolder returns where a package can be in the folder that the user has set: a folder of
// libraries, of installations or of Python packages.
func (p Package) inFolder(dir string) []string {
	dirs := []string{dir, filepath.Join(dir, p.folder())}
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

// matches reports whether a file name is that of the library, in any version if l has
// none.
func (l library) matches(name string) bool {
	var patterns []string
	switch runtime.GOOS {
	case "darwin":
		patterns = []string{"lib" + l.stem + ".dylib", "lib" + l.stem + ".*.dylib"}
	case "windows":
		patterns = []string{l.stem + ".dll"}
		if l.version != "" {
			patterns = []string{l.stem + "64_" + l.version + "*.dll"} // nvrtc64_130_0.dll
		}
	default:
		patterns = []string{"lib" + l.stem + ".so", "lib" + l.stem + ".so.*"}
		if l.version != "" {
			patterns = []string{"lib" + l.stem + ".so." + l.version, "lib" + l.stem + ".so." + l.version + ".*"}
		}
	}
	return matches(name, patterns) && !strings.Contains(name, ".alt.")
}

// anyLibrary returns the path of a shared library in dir, or "". The longest name
// counts, because shorter names are links to it.
func anyLibrary(dir string, l library) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	best := ""
	for _, e := range entries {
		if l.matches(e.Name()) && len(e.Name()) > len(best) {
			best = e.Name()
		}
	}
	if best == "" {
		return ""
	}
	return filepath.Join(dir, best)
}

// dir returns the folder into which Install installs a package.
func (p Package) dir() (string, error) {
	root, err := root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, p.folder()), nil
}

func (p Package) folder() string { return p.Project + "-" + p.Version }

// root returns the folder of all installations.
func root() (string, error) { return disk.UserDir("", "runtimes") }

// pythonTime is how long Python may take to print where its packages are.
const pythonTime = 5 * time.Second

const maxPaths = 1 << 20 // bytes that it may print

// findScript prints the names and folders of the modules with libraries, without
// importing them.
const findScript = `import importlib.util, sys
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
	args := []string{"-c", findScript}
	for _, r := range table {
		for _, p := range r.Packages {
			for _, at := range p.places {
				if !slices.Contains(args[2:], at.module) {
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
		// With -c Python searches the working directory first. A folder there with
		// the name of the package must not be loaded.
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
