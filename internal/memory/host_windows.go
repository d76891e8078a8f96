package memory

import (
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

// hostPortable reads the memory of the machine. Windows promises memory only up to the
// commit limit (memory and page files), so that less than the free memory can be
// available.
func hostPortable() (Host, error) {
	m, err := mem.NewExWindows().VirtualMemory()
	if err != nil {
		return Host{}, err
	}
	return Host{Total: int64(m.PhysTotal), Available: int64(min(m.PhysAvail, m.PageFileAvail))}, nil
}

// held returns the memory that a process has committed. Its working set would count
// mapped weights, and not what was paged out. All of it counts as anonymous.
func held(m *process.MemoryInfoStat) (used, anonymous int64) { return int64(m.VMS), int64(m.VMS) }
