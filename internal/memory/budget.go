package memory

// Budget is the memory that a job may use, in bytes.
type Budget struct {
	Host     int64  // main memory, of this process and its children
	HostFrom string // what sets it, such as "`memory_limit`"
	// Device is the memory of a GPU, 0 without a GPU that has its own memory.
	Device     int64
	DeviceFrom string
}

const (
	// Without a limit, one part in reserveShare of the free memory is left to
	// other programs, and at least reserveLeast.
	reserveShare = 20
	reserveLeast = 256 << 20
)

// Budget returns what a job may use: its limit (0 for none), what the control
// group leaves, or what the machine has free, whichever is least. It includes
// what this process and its children already hold. Without a limit, a reserve of
// the machine's memory is left to other programs, and always one of a GPU's. The
// device may be nil, and does not count if it has no memory of its own.
//
// Budget fails if the process, its control group or the machine cannot be read.
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
		use(limit, "`memory_limit`")
	}
	g, err := p.Cgroup()
	if err != nil {
		return b, err
	}
	if g.Limit > 0 {
		// Active caches that this process maps stay in use: the code of the
		// runtimes is among them.
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

// activeCache returns how much of the caches of a group the kernel considers
// active: pages that were read at least twice, such as the checkpoints of an
// earlier job. [Cgroup] counts them as used, but the kernel drops them before it
// kills a process. The result is 0 if they cannot be read.
//
// In a hierarchy it looks at the group with the lowest limit. A group above it
// has at least as much active cache.
func (p Probe) activeCache(g Cgroup) int64 {
	field := "active_file"
	if g.Version == 1 {
		field = "total_active_file"
	}
	stat, _ := p.numbers(p.findMount(g.Version).point, g.Path, "memory.stat")
	return stat[field]
}

// Windows returns how many windows of frames may be in flight if so many bytes are
// usable: 4 above 20 GB (20·10⁹), 2 above 8 GiB (8·2³⁰), else 1. A card sold as 8 GB
// has 8.6·10⁹ bytes and less than that free, so its threshold is binary. A card
// sold as 24 GB is above 20·10⁹ even when a desktop uses some of it.
func Windows(usable int64) int {
	switch {
	case usable > 20e9:
		return 4
	case usable > 8<<30:
		return 2
	}
	return 1
}
