package media

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// TestCheckOpenOutput: an output that a player has open is refused before any work is
// done.
func TestCheckOpenOutput(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "Ausgabe ü.mp4")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = CheckOutput(path, true)
	if fault.KindOf(err) != fault.Output || !strings.Contains(err.Error(), "another program may have the file open") ||
		fault.HintOf(err) != "close the program that has the file open, or choose another name" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := CheckOutput(path, true); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
