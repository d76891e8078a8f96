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

// DirVariable is the environment variable that names the folder with the
// libraries to be used. When it is set no others are looked for: who sets it
// must not get another library without a word.
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
	list, err := find(ctx, name, r)
	if err != nil {
		return Library{}, err
	}
	return list[0], nil
}

// Candidates gives every library for the backend called name, the one to be
// tried first first: those in the folder in LIPSTREAM_RUNTIME_DIR if it is set,
// else our own installations, else those of installed Python packages. A build
// with CUDA goes before one without on a machine with an NVIDIA driver.
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
		return nil, fault.Usage.New("use backend "+name, "there is none of this name", "use one of: openvino, onnxruntime")
	}
	return find(ctx, name, all...)
}

// find gives the libraries of the runtimes, or an error if there is none.
// Python is asked last, and only when nothing else is there: to start it takes
// longer than all the rest.
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
		return nil, fault.Cancelled.Wrap("find runtime "+name, err)
	}
	if len(list) == 0 {
		return nil, fault.Missing.New("find runtime "+name, "it is not installed", "run: lipstream runtime install "+name)
	}
	return list, nil
}

// GivenHint tells what to do about a folder in LIPSTREAM_RUNTIME_DIR that does
// not serve.
const GivenHint = "set " + DirVariable + " to a folder with a working library, or unset it"

// notGiven is the error for a folder in LIPSTREAM_RUNTIME_DIR without the
// runtime.
func notGiven(name, dir string) error {
	cause := "it is not in the folder " + dir + ", which " + DirVariable + " names"
	if _, err := os.ReadDir(dir); err != nil {
		cause = DirVariable + " names no folder that can be read: " + err.Error()
	}
	return fault.Missing.New("find runtime "+name, cause, GivenHint)
}

func haveNVIDIA() bool {
	if runtime.GOOS == "windows" {
		return true
	}
	_, err := os.Stat("/proc/driver/nvidia/version")
	return err == nil
}

// given looks for the runtime in the folder that the user has named: a folder
// of libraries, of our installations, of Python packages.
func (r Runtime) given(dir string) Library {
	return r.found(DirVariable, dir, filepath.Join(dir, r.folder()), filepath.Join(dir, r.module, r.libs),
		filepath.Join(dir, r.libs), filepath.Join(dir, "lib"))
}

// installed looks for the runtime among our own installations.
func (r Runtime) installed() Library {
	dir, err := Dir(r.Name)
	if err != nil {
		return Library{}
	}
	return r.found("installed by Lipstream", dir)
}

// found gives the library in the first of the folders that has it.
func (r Runtime) found(source string, dirs ...string) Library {
	for _, d := range dirs {
		if path := r.libraryIn(d); path != "" {
			return Library{Runtime: r.Name, Path: path, Source: source}
		}
	}
	return Library{}
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
		return "", fault.Missing.Wrap("find the cache folder", err, "set HOME, or XDG_CACHE_HOME")
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
