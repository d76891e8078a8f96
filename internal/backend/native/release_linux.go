package native

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReleaseFile drops the resident pages of every read-only mapping of a file in this
// process. Pages that are used again are read again.
func ReleaseFile(path string) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// address perms offset dev inode path
		fields := strings.SplitN(lines.Text(), " ", 6)
		if len(fields) < 6 || strings.TrimLeft(fields[5], " ") != path || !strings.HasPrefix(fields[1], "r--") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		begin, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end <= begin {
			continue
		}
		addr := uintptr(begin)
		_ = unix.Madvise(unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), end-begin), unix.MADV_DONTNEED) // failing only costs memory
	}
}
