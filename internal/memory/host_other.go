//go:build !windows

package memory

import (
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

// hostPortable reads the memory of the machine.
func hostPortable() (Host, error) {
	v, err := mem.VirtualMemory()
	if err != nil {
		return Host{}, err
	}
	return Host{Total: int64(v.Total), Available: int64(v.Available)}, nil
}

// held returns the resident memory of a process, and 0, because the anonymous part is not
// known.
func held(m *process.MemoryInfoStat) (used, anonymous int64) { return int64(m.RSS), 0 }
