package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shirou/gopsutil/v4/disk"
)

// Free returns how many bytes this user can still write to the disk of path, which exists.
func Free(path string) (int64, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return 0, err
	}
	return int64(min(u.Free, 1<<62)), nil
}

// Existing returns the absolute path of a folder, or of the nearest folder above it that
// exists.
func Existing(folder string) (string, error) {
	folder, err := filepath.Abs(folder)
	for err == nil {
		if _, err = os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(folder) == folder {
			break
		}
		folder, err = filepath.Dir(folder), nil
	}
	return folder, err
}
