package disk

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// TempName returns a hidden name in the folder of path, for a file that becomes path when
// it is complete. The rename stays within one file system.
func TempName(path string) string {
	ext := filepath.Ext(path)
	name := strings.TrimSuffix(filepath.Base(path), ext)
	// Names have at most 255 bytes on most file systems.
	for len(name) > 100 || !utf8.ValidString(name) && len(name) > 0 {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.lipstream-%d-%x%s", name, os.Getpid(), id, ext))
}

var tempForm = regexp.MustCompile(`(?s)^\..*\.lipstream-[0-9]+-[0-9a-f]{12}(\.[^./\\]+)?$`)

// IsTempName reports whether a file name, without its folder, is one of TempName.
func IsTempName(name string) bool { return tempForm.MatchString(name) }
