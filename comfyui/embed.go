// Package comfyui embeds the custom nodes for ComfyUI, which are written in
// Python, and installs them.
package comfyui

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// The description of the settings is generated.
//
//go:generate go run ../tools/surfaces settings.json
//go:embed __init__.py client.py host.py install.py lengths.py media.py nodes.py program.py service.py settings.json settings.py pyproject.toml README.md api_workflows example_workflows
var files embed.FS

// Folder is the name of the nodes' folder in custom_nodes.
const Folder = "comfyui-lipstream"

// project is the file that identifies the package.
const project = "pyproject.toml"

// binaryFile holds the path of the program that the nodes start.
const binaryFile = "binary.txt"

// Installed describes what Install did.
type Installed struct {
	Folder   string
	Replaced bool
	// Rivals are other folders in custom_nodes that also define LatentSyncNode:
	// ComfyUI loads only one of two nodes with the same name.
	Rivals []string
}

// Install installs the nodes into the ComfyUI in dir, or, if dir is none, into the one
// in its folder ComfyUI. binary is the program that they start. An older version is
// replaced completely, or, after a failure, not at all. No other folder is touched.
// Errors are of kind Usage if dir is not a ComfyUI, and of kind Output if it cannot be
// written.
func Install(dir, binary string) (Installed, error) {
	var done Installed
	dir, err := filepath.Abs(dir)
	if err != nil {
		return done, fault.Usage.Wrap("install the nodes into "+dir, err)
	}
	isFolder := func(path string) bool {
		st, err := os.Stat(path)
		return err == nil && st.IsDir()
	}
	// The folder of the portable version for Windows contains that of ComfyUI.
	if inner := filepath.Join(dir, "ComfyUI"); !isFolder(filepath.Join(dir, "custom_nodes")) && isFolder(filepath.Join(inner, "custom_nodes")) {
		dir = inner
	}
	custom := filepath.Join(dir, "custom_nodes")
	fail := func(err error) (Installed, error) {
		return done, fault.Output.Wrap("install the nodes into "+custom, fault.WithoutPath(err), "check that you may write there, and that the disk has room")
	}
	st, err := os.Stat(custom)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !st.IsDir():
		hint := "name the folder that has ComfyUI's main.py"
		if filepath.Base(dir) == "custom_nodes" {
			hint = "name the folder above it: " + filepath.Dir(dir)
		}
		return done, fault.Usage.New("install the nodes into "+dir, "this is not a ComfyUI folder: it has no folder custom_nodes", hint)
	case err != nil:
		return fail(err)
	}
	done.Folder = filepath.Join(custom, Folder)
	why, err := occupied(done.Folder)
	if err != nil {
		return fail(err)
	}
	if why != "" {
		return done, fault.Output.New("install the nodes into "+done.Folder, why, "move it away")
	}
	if err := sweep(custom, done.Folder); err != nil {
		return fail(err)
	}
	if _, err := os.Lstat(done.Folder); err == nil {
		done.Replaced = true
	}
	done.Rivals = rivals(custom)
	fresh, err := os.MkdirTemp(custom, unfinished)
	if err != nil {
		return fail(err)
	}
	needed := false // true if fresh holds the last version, because it could not be restored
	defer func() {
		if !needed {
			_ = os.RemoveAll(fresh)
		}
	}()
	next, last := filepath.Join(fresh, "new"), filepath.Join(fresh, "old")
	if err := write(next, binary); err != nil {
		return fail(err)
	}
	if done.Replaced {
		if err := os.Rename(done.Folder, last); err != nil {
			return fail(err)
		}
	}
	if err := os.Rename(next, done.Folder); err != nil {
		if done.Replaced {
			back := os.Rename(last, done.Folder)
			needed = back != nil // the next Install finds it there
			err = errors.Join(err, back)
		}
		return fail(err)
	}
	return done, nil
}

// unfinished is the pattern of the temporary folders of an installation. ComfyUI
// ignores folders with the suffix .disabled.
const unfinished = Folder + "-*.disabled"

// sweep removes what killed installations have left behind. If one of them was
// replacing a version, sweep restores that version first.
func sweep(custom, folder string) error {
	entries, err := os.ReadDir(custom)
	if err != nil {
		return err
	}
	before, after, _ := strings.Cut(unfinished, "*")
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), before) || !strings.HasSuffix(e.Name(), after) {
			continue
		}
		dir := filepath.Join(custom, e.Name())
		last := filepath.Join(dir, "old")
		if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) && ours(last) {
			if err := os.Rename(last, folder); err != nil {
				return err
			}
		}
		// The user's own folders may have such a name, and are kept.
		if ours(last) || ours(filepath.Join(dir, "new")) || isEmpty(dir) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// occupied returns why a folder must not be replaced, or "".
func occupied(dir string) (why string, err error) {
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return "it is a link to somewhere else", nil
	}
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
		return "it is a git checkout", nil
	}
	if !ours(dir) {
		return "something else has this name", nil
	}
	return "", nil
}

// ours reports whether a folder holds these nodes, in any version.
func ours(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, project))
	return err == nil && bytes.Contains(b, []byte(`name = "`+Folder+`"`))
}

// Files returns the files of the package by their names, with slashes.
func Files() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all[name], err = files.ReadFile(name)
		}
		return err
	})
	return all, err
}

// write writes the package. The file that identifies it comes first.
func write(dir, binary string) error {
	all, err := Files()
	if err != nil {
		return err
	}
	all[binaryFile] = []byte(binary + "\n")
	for _, name := range append([]string{project}, slices.Collect(maps.Keys(all))...) {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, all[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Binaries describes the archives of a release. It is the content of BinariesFile, with
// which the nodes download the program.
type Binaries struct {
	URL       string            `json:"url"`       // the names are appended to it
	Platforms map[string]Binary `json:"platforms"` // such as "linux/amd64"
}

// Binary is the archive for one platform.
type Binary struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"` // in bytes
	SHA256  string `json:"sha256"`
	Program string `json:"program"` // its path in the archive
}

// BinariesFile is the name of the file with Binaries in the package of a release.
const BinariesFile = "binary.json"

// rivals returns the other folders with a node LatentSyncNode.
func rivals(custom string) (names []string) {
	entries, err := os.ReadDir(custom)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		if name == Folder || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".disabled") {
			continue
		}
		for _, file := range []string{"__init__.py", "nodes.py"} {
			b, err := os.ReadFile(filepath.Join(custom, name, file))
			if err == nil && (bytes.Contains(b, []byte(`"LatentSyncNode"`)) || bytes.Contains(b, []byte(`'LatentSyncNode'`))) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
