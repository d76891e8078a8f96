package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestModelsNoSpace prepares a checkpoint with the cache on a disk that is too
// small.
func TestModelsNoSpace(t *testing.T) {
	t.Parallel()
	dir := synthModels(t)
	cache := filepath.Join(dir, "cache")
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	mount(t, cache, 0, "size=2m")
	modelsFails(t, dir, 6, "are free in the cache folder", "prepare", "m/latentsync_unet.pt")
	if left, _ := filepath.Glob(filepath.Join(cache, "lipstream", "prepared", "*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
