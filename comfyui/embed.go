// Package comfyui holds the custom nodes for ComfyUI, which are Python, and puts
// them where ComfyUI finds them.
package comfyui

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

//go:embed __init__.py client.py host.py lengths.py media.py nodes.py service.py pyproject.toml README.md api_workflows example_workflows
var files embed.FS

// Folder is the name of ours in custom_nodes.
const Folder = "comfyui-lipstream"

// binaryFile has the path of the program that the nodes start.
const binaryFile = "binary.txt"

// Installed says what Install did.
type Installed struct {
	Folder   string
	Replaced bool
	// Rivals are other folders of custom_nodes that define LatentSyncNode, too:
	// of two nodes with one name ComfyUI takes one.
	Rivals []string
}

// Install puts the nodes into the ComfyUI in a folder; binary is the program that
// they start. An older version is replaced as a whole, or, after a failure, not at
// all. No other folder is touched. Errors are of kind Usage where it is no ComfyUI,
// and of kind Output where it cannot be written.
func Install(dir, binary string) (Installed, error) {
	var done Installed
	dir, err := filepath.Abs(dir)
	if err != nil {
		return done, fault.Wrap(fault.Usage, "install the nodes into", dir, err, "")
	}
	custom := filepath.Join(dir, "custom_nodes")
	if st, err := os.Stat(custom); err != nil || !st.IsDir() {
		hint := "name the folder that has ComfyUI's main.py"
		if filepath.Base(dir) == "custom_nodes" {
			hint = "name the folder above it: " + filepath.Dir(dir)
		}
		return done, fault.New(fault.Usage, "install the nodes into", dir, "this is no ComfyUI: it has no folder custom_nodes", hint)
	}
	fail := func(err error) (Installed, error) {
		return done, fault.Wrap(fault.Output, "install the nodes into", custom, err, "")
	}
	done.Folder = filepath.Join(custom, Folder)
	switch _, err := os.Lstat(done.Folder); {
	case err == nil && !ours(done.Folder):
		return done, fault.New(fault.Output, "install the nodes into", done.Folder, "something else has this name", "move it away")
	case err == nil:
		done.Replaced = true
	case !errors.Is(err, fs.ErrNotExist):
		return fail(err)
	}
	done.Rivals = rivals(custom)
	// ComfyUI leaves names that begin with a dot alone.
	fresh, err := os.MkdirTemp(custom, "."+Folder+"-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
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
			err = errors.Join(err, os.Rename(last, done.Folder))
		}
		return fail(err)
	}
	return done, nil
}

// ours tells whether a folder has these nodes, of any version.
func ours(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "pyproject.toml"))
	return err == nil && bytes.Contains(b, []byte(`name = "`+Folder+`"`))
}

func write(dir, binary string) error {
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		b, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, binaryFile), []byte(binary+"\n"), 0o644)
}

// rivals are other folders with a node LatentSyncNode.
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
			if err == nil && bytes.Contains(b, []byte(`"LatentSyncNode"`)) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
