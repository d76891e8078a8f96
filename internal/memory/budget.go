package memory

import (
	"os"
	"strconv"
	"strings"
)

// Budget is the memory that a job may use, bytes.
type Budget struct {
	Host     int64  // of the machine: this process and its children
	HostFrom string // what sets it, for people
	// Device is the memory of a GPU that has its own; 0 without one.
	Device     int64
	DeviceFrom string
}

const (
	// reserveShare of what is free is left to others where nobody has set a
	// limit, and at least reserveLeast.
	reserveShare = 20 // one part in
	reserveLeast = 256 << 20
)

// Budget finds out what a job may use: its limit (0 for none), what the control
// group leaves, or what the machine has free, whichever is least. What this
// process and its children hold already is theirs. Without a limit of the job,
// a reserve of the machine's memory is left to others, and always one of a
// GPU's. A GPU without memory of its own, or nil, has no part in it.
//
// An error is that of reading the process, its control group or the machine.
func (p Probe) Budget(limit int64, device *GPU) (Budget, error) {
	var b Budget
	use := func(n int64, from string) {
		if b.HostFrom == "" || n < b.Host {
			b.Host, b.HostFrom = max(0, n), from
		}
	}
	u, err := p.Usage()
	if err != nil {
		return b, err
	}
	own := max(u.Anonymous, u.Total()-u.Mapped)
	if limit > 0 {
		use(limit, "--memory-limit")
	}
	g, err := p.Cgroup()
	if err != nil {
		return b, err
	}
	if g.Limit > 0 {
		// Of the caches in active use, those that we map stay taken: the code
		// of the runtimes is among them.
		cache := max(0, p.activeCache(g)-u.Mapped)
		use(min(g.Limit, g.Available+own+cache), "limit of the control group "+g.Path)
	}
	h, err := p.Host()
	if err != nil {
		return b, err
	}
	free := h.Available + own
	if limit <= 0 {
		free -= reserve(free)
	}
	use(free, "free memory of the machine")
	if device != nil && !device.Shared && device.Total > 0 {
		free := device.Free()
		b.Device, b.DeviceFrom = free-reserve(free), "free memory of "+device.ID()
	}
	return b, nil
}

func reserve(free int64) int64 { return min(free, max(free/reserveShare, reserveLeast)) }

// activeCache is how much of the caches of a group is in active use, by the
// kernel's count: what was read twice is, for as long as nothing else needs the
// memory. Checkpoints of an earlier job are. [Cgroup] counts it as taken, but
// the kernel drops it before it kills. It is 0 where it cannot be read.
//
// Of a hierarchy it looks at the group with the lowest limit. Where one above
// has less left, that one has this much of active caches at least.
func (p Probe) activeCache(g Cgroup) int64 {
	pid, field := "self", "active_file"
	if p.PID != 0 {
		pid = strconv.Itoa(p.PID)
	}
	if g.Version == 1 {
		field = "total_active_file"
	}
	mounts, err := os.ReadFile(p.path("/proc", pid, "mountinfo"))
	if err != nil {
		mounts = nil // the usual mount points will do
	}
	stat, err := os.ReadFile(p.path(findMount(string(mounts), g.Version).point, g.Path, "memory.stat"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(stat)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == field {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

// Windows is how many windows of frames may be in flight where so many bytes
// are usable: 4 above 20 GB (20·10⁹), 2 above 8 GiB (8·2³⁰), else 1. A card sold
// as 8 GB has 8.6·10⁹ bytes, of which less is free, so its threshold is binary;
// one sold as 24 GB is still above 20·10⁹ when a desktop takes some of it.
func Windows(usable int64) int {
	switch {
	case usable > 20e9:
		return 4
	case usable > 8<<30:
		return 2
	}
	return 1
}
