package memory

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
// process and its children hold already is theirs.
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
		use(min(g.Limit, g.Available+own), "limit of the control group "+g.Path)
	}
	h, err := p.Host()
	if err != nil {
		return b, err
	}
	if free := h.Available + own; limit == 0 || free < limit {
		use(free-reserve(free), "free memory of the machine")
	}
	if device != nil {
		free := device.Free()
		b.Device, b.DeviceFrom = free-reserve(free), "free memory of "+device.ID()
	}
	return b, nil
}

func reserve(free int64) int64 { return min(free, max(free/reserveShare, reserveLeast)) }

// Windows is how many windows of frames may be in flight where so much memory
// is usable: 4 above 20 GB, 2 above 8 GB, else 1. A card sold as 8 GB has 8.6e9
// bytes, of which less is free.
func Windows(usable int64) int {
	switch {
	case usable > 20e9:
		return 4
	case usable > 8<<30:
		return 2
	}
	return 1
}
