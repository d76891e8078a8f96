package memory

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Cgroup describes the memory limit of the process's control group, in bytes.
// Every level of the hierarchy can have a limit, and all of them apply.
type Cgroup struct {
	Version int    // 1 or 2; 0 if no control group controls memory
	Path    string // of the group with the lowest limit; without a limit, of the process's own group
	// Limit is the lowest limit from the process's group up; 0 for none.
	Limit int64
	// Used is what the group at Path uses, including caches.
	Used int64
	// Available is what is left under the limits, including caches that are not
	// active; 0 without a limit.
	Available int64
}

// noLimit is the number from which a limit means none: version 1 writes the
// largest number of whole pages, just below 2^63.
const noLimit = 1 << 60

// Cgroup reads the limits of the process's control group. Without control groups
// it returns the zero value and no error.
func (p Probe) Cgroup() (Cgroup, error) {
	if !p.procfs() {
		return Cgroup{}, nil
	}
	data, err := p.readProc("cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return Cgroup{}, nil
	}
	if err != nil {
		return Cgroup{}, err
	}
	// Every hierarchy has a line "number:controllers:path"; version 2 has
	// number 0 and no controllers. If both are mounted, memory belongs to one.
	groups := map[int]string{} // by version
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		switch {
		case len(f) != 3:
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			groups[1] = f[2]
		case f[0] == "0" && f[1] == "":
			groups[2] = f[2]
		}
	}
	for _, version := range []int{1, 2} {
		if group, ok := groups[version]; ok {
			return p.walkCgroup(version, group), nil
		}
	}
	return Cgroup{}, nil
}

// readProc reads a file of the process in /proc.
func (p Probe) readProc(name string) ([]byte, error) {
	pid := "self"
	if p.PID != 0 {
		pid = strconv.Itoa(p.PID)
	}
	return os.ReadFile(p.path("/proc", pid, name))
}

// cgroupMount is where a hierarchy is mounted, and which part of it: in a
// container often only the container's own.
type cgroupMount struct{ point, root string }

// findMount finds a hierarchy in /proc/PID/mountinfo, whose lines are
// "id parent major:minor root point options [tags] - type source superoptions".
func (p Probe) findMount(version int) cgroupMount {
	found := cgroupMount{point: "/sys/fs/cgroup", root: "/"}
	if version == 1 {
		found.point = "/sys/fs/cgroup/memory"
	}
	mountinfo, err := p.readProc("mountinfo")
	if err != nil {
		return found
	}
	for line := range strings.Lines(string(mountinfo)) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		if version == 1 && g[0] == "cgroup" && slices.Contains(strings.Split(g[2], ","), "memory") || version == 2 && g[0] == "cgroup2" {
			return cgroupMount{point: mountEscapes.Replace(f[4]), root: mountEscapes.Replace(f[3])}
		}
	}
	return found
}

// mountEscapes undoes the escapes of mountinfo.
var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// walkCgroup reads the group and everything above it, as far as it is mounted.
func (p Probe) walkCgroup(version int, group string) Cgroup {
	m := p.findMount(version)
	// Only what lies below the mount's root is visible. A path that leaves it
	// ("/../..", in namespaces) or lies elsewhere is taken for the root.
	rel, ok := strings.CutPrefix(group, strings.TrimSuffix(m.root, "/"))
	if !ok || rel != "" && rel[0] != '/' {
		rel = "/"
	}
	rel = path.Clean("/" + rel)
	g := Cgroup{Path: rel}
	for at := rel; ; at = path.Dir(at) {
		if l, ok := p.readCgroup(version, path.Join(m.point, at)); ok {
			if g.Version == 0 {
				g.Version, g.Used = version, l.used
			}
			if l.limit > 0 {
				left := max(0, l.limit-l.used+l.cache)
				if g.Limit == 0 || left < g.Available {
					g.Available = left
				}
				if g.Limit == 0 || l.limit < g.Limit {
					g.Limit, g.Used, g.Path = l.limit, l.used, at
				}
			}
		}
		if at == "/" {
			break
		}
	}
	if g.Version == 0 {
		return Cgroup{}
	}
	g.Available = min(g.Available, g.Limit)
	return g
}

// cgroupLevel holds one group's own figures.
type cgroupLevel struct{ limit, used, cache int64 }

func (p Probe) readCgroup(version int, dir string) (cgroupLevel, bool) {
	file := func(name string) (int64, bool) {
		text := textFile(p.path(dir), name)
		if text == "max" {
			return 0, true
		}
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	}
	var l cgroupLevel
	var okLimit, okUsed bool
	cache := "inactive_file"
	if version == 1 {
		l.limit, okLimit = file("memory.limit_in_bytes")
		l.used, okUsed = file("memory.usage_in_bytes")
		cache = "total_inactive_file"
	} else {
		l.limit, okLimit = file("memory.max")
		l.used, okUsed = file("memory.current")
		// Above memory.high the kernel does not kill the group but slows it down
		// to a crawl: for planning this is a limit too.
		if high, ok := file("memory.high"); ok {
			l.limit = lower(l.limit, high)
		}
	}
	if !okLimit && !okUsed {
		return l, false // no such group, or the root of the machine, which has no files
	}
	stat, _ := p.numbers(dir, "memory.stat")
	l.cache = stat[cache]
	// Version 1 lists the limits of groups that a container cannot see.
	l.limit = lower(l.limit, stat["hierarchical_memory_limit"])
	if l.limit >= noLimit {
		l.limit = 0
	}
	return l, true
}

// lower returns the lower of two limits, where 0 means none.
func lower(a, b int64) int64 {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}
