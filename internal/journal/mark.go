package journal

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/fault"
)

// Mark returns a text that changes when a file is replaced or written to: its
// path, size and time of modification.
func Mark(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", fault.Input.Wrap("look at "+path, fault.WithoutPath(err))
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Input.Wrap("look at "+path, err)
	}
	return fmt.Sprint(abs, st.Size(), st.ModTime().UTC()), nil
}
