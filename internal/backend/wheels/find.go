package wheels

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
}

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
	for _, r := range table {
		switch {
		case r.Backend != name:
		case r.marker != "" && haveNVIDIA():
			all = append([]Runtime{r}, all...)
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
	add := func(l Library) {
		if l.Path != "" && !slices.ContainsFunc(list, func(o Library) bool { return o.Path == l.Path }) {
			list = append(list, l)
		}
	}
	given := os.Getenv(DirVariable)
	for _, r := range runtimes {
		if given != "" {
			add(r.given(given))
		} else {
			add(r.installed())
		}
	}
	if given != "" && len(list) == 0 {
		return nil, notGiven(name, given)
	}
	if len(list) == 0 {
		asked := map[string][]string{} // by module: two runtimes can share one
		for _, r := range runtimes {
			if _, ok := asked[r.module]; !ok {
				asked[r.module] = pythonPackages(ctx, r.module)
			}
			for _, d := range asked[r.module] {
				add(r.found("Python package", filepath.Join(d, r.libs)))
			}
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

func haveNVIDIA() bool {
	if runtime.GOOS == "windows" {
		return true
	}
	_, err := os.Stat("/proc/driver/nvidia/version")
	return err == nil
}

// given searches the folder that the user has set: a folder of libraries, of
// installations or of Python packages.
func (r Runtime) given(dir string) Library {
	return r.found(DirVariable, dir, filepath.Join(dir, r.folder()), filepath.Join(dir, r.module, r.libs),
		filepath.Join(dir, r.libs), filepath.Join(dir, "lib"))
}

// installed searches the installations of Install.
func (r Runtime) installed() Library {
	dir, err := Dir(r.Name)
	if err != nil {
		return Library{}
	}
	return r.found("installed by Lipstream", dir)
}

// found returns the library in the first of the folders that has it.
func (r Runtime) found(source string, dirs ...string) Library {
	for _, d := range dirs {
		if path := r.libraryIn(d); path != "" {
			return Library{Runtime: r.Name, Path: path, Source: source}
		}
	}
	return Library{}
}

// libraryIn returns the path of the runtime's library in dir, or "".
func (r Runtime) libraryIn(dir string) string {
	if r.marker != "" && anyLibrary(dir, r.marker) == "" {
		return ""
	}
	return anyLibrary(dir, r.library)
}

// anyLibrary returns the path of a shared library by its stem, with any version in its
// name. The longest name counts, because shorter names are links to it.
func anyLibrary(dir, stem string) string {
	patterns := []string{"lib" + stem + ".so", "lib" + stem + ".so.*"}
	switch runtime.GOOS {
	case "darwin":
		patterns = []string{"lib" + stem + ".dylib", "lib" + stem + ".*.dylib"}
	case "windows":
		patterns = []string{stem + ".dll"}
	}
	best := ""
	for _, p := range patterns {
		// filepath.Glob would read pattern characters in dir.
		entries, err := os.ReadDir(dir)
		if err != nil {
			return ""
		}
		for _, e := range entries {
			if ok, _ := filepath.Match(p, e.Name()); ok && len(e.Name()) > len(best) { // the patterns are good
				best = e.Name()
			}
		}
	}
	if best == "" {
		return ""
	}
	return filepath.Join(dir, best)
}

// Dir returns the folder into which Install installs the named runtime.
func Dir(name string) (string, error) {
	r, err := Named(name)
	if err != nil {
		return "", err
	}
	root, err := root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, r.folder()), nil
}

func (r Runtime) folder() string { return r.Name + "-" + r.Version }

// root returns the folder of all installations.
func root() (string, error) { return disk.UserDir("", "runtimes") }

// pythonTime is how long Python may take to print where its packages are.
const pythonTime = 5 * time.Second

const maxPaths = 1 << 20 // bytes that it may print

// findScript prints the folders of a package without importing it.
const findScript = `import importlib.util, sys
s = importlib.util.find_spec(sys.argv[1])
for p in (s.submodule_search_locations or [] if s else []):
    print(p)
`

// pythonPackages returns the folders of a package of the machine's Python. A Python
// that is missing, broken or slow has no packages.
func pythonPackages(ctx context.Context, module string) []string {
	names := []string{"python3", "python"}
	if runtime.GOOS == "windows" {
		names = []string{"python", "py"}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, pythonTime)
		cmd := exec.Command(path, "-c", findScript, module)
		// With -c Python searches the working directory first. A folder there with
		// the name of the package must not be loaded.
		cmd.Dir = filepath.VolumeName(path) + string(filepath.Separator)
		out, err := child.Output(ctx, cmd, 0, maxPaths)
		cancel()
		if err != nil {
			continue
		}
		var dirs []string
		for line := range strings.Lines(string(out)) {
			if d := strings.TrimSpace(line); filepath.IsAbs(d) {
				dirs = append(dirs, d)
			}
		}
		return dirs
	}
	return nil
}
