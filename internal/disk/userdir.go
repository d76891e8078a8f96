package disk

import (
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/fault"
)

// UserDir returns the folder that an environment variable names, or the folder
// lipstream/name in the user's cache folder. variable may be "". An error is of
// kind Missing.
func UserDir(variable, name string) (string, error) {
	hint := "set HOME or XDG_CACHE_HOME"
	if variable != "" {
		if dir := os.Getenv(variable); dir != "" {
			return dir, nil
		}
		hint = "set " + variable
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Missing.Wrap("find the cache folder", err, hint)
	}
	return filepath.Join(cache, "lipstream", name), nil
}
