//go:build !windows

package disk

import "os"

// TempVariable is the environment variable that sets the folder for temporary files.
const TempVariable = "TMPDIR"

// Unnamed creates a file in dir, or in the folder for temporary files if dir is "". It
// has no name, so that nothing is left of it when it is closed, or the process killed.
func Unnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "lipstream-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
