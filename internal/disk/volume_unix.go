//go:build unix

package disk

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// Volume returns a name that two paths have in common if they are on the same disk. The
// path exists.
func Volume(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	return strconv.FormatUint(uint64(st.Dev), 16), nil
}
