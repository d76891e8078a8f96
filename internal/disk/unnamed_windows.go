package disk

import (
	"cmp"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// TempVariable is the environment variable that sets the folder for temporary files.
const TempVariable = "TMP"

// Unnamed creates a file in dir, or in the folder for temporary files if dir is "". The
// system removes it when it is closed, even if the process is killed.
func Unnamed(dir string) (*os.File, error) {
	path := TempName(filepath.Join(cmp.Or(dir, os.TempDir()), "unnamed"))
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|windows.FILE_FLAG_DELETE_ON_CLOSE, 0o600)
}
