package models

import (
	"fmt"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
)

// FreeSpace returns how many bytes this user can still write to the disk of path.
func FreeSpace(path string) (int64, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return 0, err
	}
	return int64(min(u.Free, 1<<62)), nil
}

// enough returns an error if free (nil for FreeSpace) reports less than need bytes in dir,
// for writing subject. If the free space is unknown, it returns nil. in says where in the
// message: "" or a text that begins with a space.
func enough(free func(dir string) (int64, error), dir string, need int64, subject, in, hint string) error {
	if free == nil {
		free = FreeSpace
	}
	n, err := free(dir)
	if err != nil || n >= need {
		return nil
	}
	return fault.Output.New("write "+subject, fmt.Sprintf("%s are free%s, but %s are needed", memory.Size(max(n, 0)), in, memory.Size(need)), hint)
}
