package comfyui

import (
	"os"
	"path/filepath"
	"slices"
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
	for _, name := range []string{"__init__.py", "nodes.py", "pyproject.toml", "api_workflows/lipstream.json", "example_workflows/latentsync_wrapper.json"} {
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
	if err := os.RemoveAll(got.Folder); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(got.Folder, "mine.py"), "")
	if _, err := Install(dir, "/bin/x"); fault.KindOf(err) != fault.Output {
		t.Errorf("somebody else's folder: %v", err)
	}
}
