package restorer

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/settings"
)

// folder is where networks are found by their names, in the folder of the checkpoints.
const folder = "restore"

// Extension ends the names of the files of networks.
const Extension = ".onnx"

// Find returns the path of the network that the setting `restore` names, or "" if it names
// none.
func Find(s settings.Settings) (string, error) {
	name, plain := s.Restorer()
	if !plain {
		return s.Restore, nil
	}
	dir := s.Models
	if dir == "" {
		var err error
		if dir, err = models.Dir(); err != nil {
			return "", err
		}
	}
	dir = filepath.Join(dir, folder)
	path := filepath.Join(dir, name+Extension)
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return path, nil
	}
	hint := "put " + name + Extension + " into " + dir + ", or name a file that ends in " + Extension
	if found := names(dir); found != nil {
		hint = "choose one of " + strings.Join(found, ", ") + ", or name a file that ends in " + Extension
	}
	return "", fault.Missing.New("find the restoration network "+name, "there is no such file in "+dir, hint)
}

// names lists the networks in a folder.
func names(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), Extension); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Check returns an error of kind Input if a file cannot be a network, without loading it.
func Check(path string) error { return backend.CheckFile("open the restoration network "+path, path) }
