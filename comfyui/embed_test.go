package comfyui

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	if _, err := Install(dir, "/bin/x"); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
		t.Errorf("no ComfyUI: %v", err)
	}
	custom := filepath.Join(dir, "custom_nodes")
	put(t, filepath.Join(custom, "ComfyUI-LatentSyncWrapper", "nodes.py"), `NODE_CLASS_MAPPINGS = {"LatentSyncNode": LatentSyncNode}`)
	put(t, filepath.Join(custom, "other", "nodes.py"), `NODE_CLASS_MAPPINGS = {}`)
	if _, err := Install(custom, "/bin/x"); fault.HintOf(err) != "name the folder above it: "+dir {
		t.Errorf("one too deep: %v", fault.HintOf(err))
	}
	got, err := Install(dir, "/bin/x")
	if err != nil || got.Replaced || !slices.Equal(got.Rivals, []string{"ComfyUI-LatentSyncWrapper"}) {
		t.Fatalf("%+v %v", got, err)
	}
	for _, name := range []string{"__init__.py", "nodes.py", "pyproject.toml", "settings.json", "api_workflows/lipstream.json", "example_workflows/latentsync_wrapper.json"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(got.Folder, name)); err != nil || string(b) != string(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Everything that the package has but its tests is there.
	here, err := filepath.Glob("*.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range here {
		if _, err := os.Stat(filepath.Join(got.Folder, name)); err != nil {
			t.Error(err)
		}
	}
	portable := filepath.Join(t.TempDir(), "ComfyUI_windows_portable")
	put(t, filepath.Join(portable, "ComfyUI", "custom_nodes", "x.py"), "")
	if got, err := Install(portable, "/bin/x"); err != nil || got.Folder != filepath.Join(portable, "ComfyUI", "custom_nodes", Folder) {
		t.Errorf("%+v %v", got, err)
	}
	put(t, filepath.Join(portable, "custom_nodes", "x.py"), "")
	if got, err := Install(portable, "/bin/x"); err != nil || got.Folder != filepath.Join(portable, "custom_nodes", Folder) {
		t.Errorf("a ComfyUI with another one in it: %+v %v", got, err)
	}
	put(t, filepath.Join(got.Folder, "gone.py"), "of an older version")
	if got, err = Install(dir, "/bin/y"); err != nil || !got.Replaced {
		t.Fatalf("%+v %v", got, err)
	}
	if b, err := os.ReadFile(filepath.Join(got.Folder, "binary.txt")); err != nil || string(b) != "/bin/y\n" {
		t.Errorf("%q %v", b, err)
	}
	entries, err := os.ReadDir(custom)
	if err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(got.Folder, "gone.py")); err == nil {
		t.Error("a file of the older version is there still")
	}
}

// TestInstallLeavesAlone: what is not ours alone is not replaced.
func TestInstallLeavesAlone(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	custom := filepath.Join(dir, "custom_nodes")
	folder := filepath.Join(custom, Folder)
	refused := func(why string) {
		t.Helper()
		if _, err := Install(dir, "/bin/x"); fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), why) || fault.HintOf(err) != "move it away" {
			t.Errorf("%s: %v, %s", why, err, fault.HintOf(err))
		}
	}
	put(t, filepath.Join(folder, "mine.py"), "")
	refused("something else has this name")
	put(t, filepath.Join(folder, "pyproject.toml"), `name = "comfyui-lipstream"`)
	put(t, filepath.Join(folder, ".git", "HEAD"), "")
	refused("it is a git checkout")
	if _, err := os.Stat(filepath.Join(folder, "mine.py")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(elsewhere, "pyproject.toml"), `name = "comfyui-lipstream"`)
	if err := os.Symlink(elsewhere, folder); err != nil {
		t.Skip(err)
	}
	if _, err := os.Lstat(folder); err != nil { // Wine 10 makes no links, and says it did
		t.Skip(err)
	}
	refused("it is a link to somewhere else")
}

// TestInstallAfterOneThatWasKilled: between its two renames, and before.
func TestInstallAfterOneThatWasKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[AI] [x")
	custom := filepath.Join(dir, "custom_nodes")
	const mark = `name = "comfyui-lipstream"`
	put(t, filepath.Join(custom, Folder+"-1.disabled", "old", "pyproject.toml"), mark)
	put(t, filepath.Join(custom, Folder+"-1.disabled", "new", "pyproject.toml"), mark)
	put(t, filepath.Join(custom, Folder+"-2.disabled", "new", "pyproject.toml"), mark)
	put(t, filepath.Join(custom, Folder+"-mine.disabled", "pyproject.toml"), mark) // that somebody has switched off
	got, err := Install(dir, "/bin/x")
	if err != nil || !got.Replaced {
		t.Fatalf("%+v %v", got, err)
	}
	entries, err := os.ReadDir(custom)
	if err != nil || len(entries) != 2 || entries[1].Name() != Folder+"-mine.disabled" {
		t.Errorf("left: %v %v", entries, err)
	}
}
