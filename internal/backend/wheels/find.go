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

	"github.com/lipstream/lipstream/internal/fault"
)

// DirVariable is the environment variable that names a folder with libraries
// to be used before all others.
const DirVariable = "LIPSTREAM_RUNTIME_DIR"

// Library is a library found on the machine.
type Library struct {
	Runtime string // the name in the table
	Path    string
	Source  string // where it came from, for people
}

// Find gives the library of the runtime called name that Candidates puts
// first.
func Find(ctx context.Context, name string) (Library, error) {
	r, err := Named(name)
	if err != nil {
		return Library{}, err
	}
	if list := r.candidates(ctx); len(list) > 0 {
		return list[0], nil
	}
	if err := ctx.Err(); err != nil {
		return Library{}, fault.Wrap(fault.Cancelled, "find runtime", name, err, "")
	}
	return Library{}, notInstalled(name)
}

func notInstalled(name string) error {
	return fault.New(fault.Missing, "find runtime", name, "it is not installed", "run: lipstream runtime install "+name)
}

// Candidates gives every library for the backend called name, the one to be
// tried first first: from the folder in LIPSTREAM_RUNTIME_DIR, from our own
// installations, from installed Python packages. A build with CUDA goes before
// one without on a machine with an NVIDIA driver.
func Candidates(ctx context.Context, name string) ([]Library, error) {
	var list []Library
	known := false
	for _, r := range table {
		if r.Backend != name {
			continue
		}
		known = true
		found := r.candidates(ctx)
		if r.marker != "" && haveNVIDIA() {
			list = append(found, list...)
		} else {
			list = append(list, found...)
		}
	}
	if !known {
		return nil, fault.New(fault.Usage, "use backend", name, "there is none of this name", "use one of: openvino, onnxruntime")
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(fault.Cancelled, "find runtime", name, err, "")
	}
	if len(list) == 0 {
		return nil, notInstalled(name)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(l Library) bool {
		dup := seen[l.Path]
		seen[l.Path] = true
		return dup
	}), nil
}

func haveNVIDIA() bool {
	if runtime.GOOS == "windows" {
		return true
	}
	_, err := os.Stat("/proc/driver/nvidia/version")
	return err == nil
}

func (r Runtime) candidates(ctx context.Context) []Library {
	var list []Library
	add := func(source string, dirs ...string) {
		for _, d := range dirs {
			if path := r.libraryIn(d); path != "" {
				list = append(list, Library{Runtime: r.Name, Path: path, Source: source})
				return
			}
		}
	}
	if d := os.Getenv(DirVariable); d != "" {
		add(DirVariable, d, filepath.Join(d, r.folder()), filepath.Join(d, r.module, r.libs), filepath.Join(d, r.libs), filepath.Join(d, "lib"))
	}
	if d, err := Dir(r.Name); err == nil {
		add("installed by Lipstream", d)
	}
	for _, d := range pythonPackages(ctx, r.module) {
		add("Python package", filepath.Join(d, r.libs))
	}
	return list
}

// libraryIn gives the path of the runtime's library in dir, or "".
func (r Runtime) libraryIn(dir string) string {
	if r.marker != "" && anyLibrary(dir, r.marker) == "" {
		return ""
	}
	return anyLibrary(dir, r.library)
}

// anyLibrary gives the path of a shared library by its stem, however its
// version is written into the file's name. The longest name is taken: it is
// the file that links of shorter ones lead to.
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

// Dir is where the runtime called name is, or would be, installed.
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

// root is the folder of all our installations.
func root() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Wrap(fault.Missing, "find the cache folder", "", err, "set HOME, or XDG_CACHE_HOME")
	}
	return filepath.Join(cache, "lipstream", "runtimes"), nil
}

// pythonTime is how long Python may take to say where its packages are.
const pythonTime = 5 * time.Second

// findScript prints the folders of a package without importing it.
const findScript = `import importlib.util, sys
s = importlib.util.find_spec(sys.argv[1])
for p in (s.submodule_search_locations or [] if s else []):
    print(p)
`

// pythonPackages asks the machine's Python where a package lies. A Python
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
		cmd := exec.CommandContext(ctx, path, "-c", findScript, module)
		// With -c Python looks in the working directory first; a folder there
		// that happens to be called openvino is not to be loaded.
		cmd.Dir = filepath.VolumeName(path) + string(filepath.Separator)
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
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
