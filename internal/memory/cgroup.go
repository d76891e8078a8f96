package memory

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
)

// Cgroup is the memory limit that the process's control group sets, in bytes.
// Limits can sit at every level of the hierarchy, and each of them holds.
type Cgroup struct {
	Version int    // 1 or 2; 0 where there is none that controls memory
	Path    string // of the group with the lowest limit, or of the process's own without one
	// Limit is the lowest limit from the process's group up; 0 for none.
	Limit int64
	// Used is what the group at Path uses, its caches included.
	Used int64
	// Available is what is left under the limits, counting caches that are
	// not in active use as left; 0 without a limit.
	Available int64
}

// noLimit is where a number stops being a limit: version 1 writes the largest
// number of pages for "none", just below 2^63.
const noLimit = 1 << 60

// Cgroup reads the limits of the process's control group. Without control
// groups it is the zero value, without an error.
func (p Probe) Cgroup() (Cgroup, error) {
	if !p.procfs() {
		return Cgroup{}, nil
	}
	pid := "self"
	if p.PID != 0 {
		pid = strconv.Itoa(p.PID)
	}
	data, err := os.ReadFile(p.path("/proc", pid, "cgroup"))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return Cgroup{}, nil
		}
		return Cgroup{}, err
	}
	// Every hierarchy has a line "number:controllers:path"; version 2 has
	// number 0 and no controllers. With both mounted, memory belongs to one.
	v1, v2, has1, has2 := "", "", false, false
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		switch {
		case len(f) != 3:
		case has(f[1], "memory"):
			v1, has1 = f[2], true
		case f[0] == "0" && f[1] == "":
			v2, has2 = f[2], true
		}
	}
	mounts, err := os.ReadFile(p.path("/proc", pid, "mountinfo"))
	if err != nil {
		mounts = nil // the usual mount points will do
	}
	if has1 {
		return p.walkCgroup(1, v1, findMount(string(mounts), 1)), nil
	}
	if has2 {
		return p.walkCgroup(2, v2, findMount(string(mounts), 2)), nil
	}
	return Cgroup{}, nil
}

// has tells whether a comma-separated list holds word.
func has(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// cgroupMount is where a hierarchy can be seen, and which part of it: in a
// container often only the container's own.
type cgroupMount struct{ point, root string }

// findMount looks through /proc/PID/mountinfo, whose lines are
// "id parent major:minor root point options [tags] - type source superoptions".
func findMount(mountinfo string, version int) cgroupMount {
	found := cgroupMount{point: "/sys/fs/cgroup", root: "/"}
	if version == 1 {
		found.point = "/sys/fs/cgroup/memory"
	}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		if version == 1 && g[0] == "cgroup" && has(g[2], "memory") || version == 2 && g[0] == "cgroup2" {
			return cgroupMount{point: unescape(f[4]), root: unescape(f[3])}
		}
	}
	return found
}

// unescape undoes the kernel's \040 for blanks and the like in mountinfo.
func unescape(s string) string {
	for _, e := range [...][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

// walkCgroup reads the group and everything above it, as far as it can be seen.
func (p Probe) walkCgroup(version int, group string, m cgroupMount) Cgroup {
	// Only what lies below the mount's root can be seen. A path that leaves
	// it ("/../..", in namespaces) or lies elsewhere is seen as the root.
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

// cgroupLevel is one group's own figures.
type cgroupLevel struct{ limit, used, cache int64 }

func (p Probe) readCgroup(version int, dir string) (cgroupLevel, bool) {
	file := func(name string) (int64, bool) {
		data, err := os.ReadFile(p.path(dir, name))
		if err != nil {
			return 0, false
		}
		text := strings.TrimSpace(string(data))
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
		// Over memory.high the kernel does not kill but slows the group down
		// to a crawl: for planning, a limit as well.
		if high, ok := file("memory.high"); ok {
			l.limit = lower(l.limit, high)
		}
	}
	if !okLimit && !okUsed {
		return l, false // no such group, or the real root, which has no files
	}
	stat, err := os.ReadFile(p.path(dir, "memory.stat"))
	if err == nil {
		for line := range strings.Lines(string(stat)) {
			f := strings.Fields(line)
			if len(f) != 2 {
				continue
			}
			n, err := strconv.ParseInt(f[1], 10, 64)
			switch {
			case err != nil:
			case f[0] == cache:
				l.cache = n
			case f[0] == "hierarchical_memory_limit":
				// Version 1 tells the limits of groups that a container cannot see.
				l.limit = lower(l.limit, n)
			}
		}
	}
	if l.limit >= noLimit {
		l.limit = 0
	}
	return l, true
}

// lower gives the lower of two limits, where 0 is none.
func lower(a, b int64) int64 {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}
