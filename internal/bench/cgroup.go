package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Cgroup is a control group of its own with a memory limit and without swap:
// what is started with Command lives under a limit that the kernel enforces.
// Linux only. Source: the kernel's admin-guide/cgroup-v1/memory.rst and
// admin-guide/cgroup-v2.rst.
type Cgroup struct {
	Version int    // 1 or 2
	Dir     string // of the group in the file system
	Limit   int64  // bytes
	// peak is the largest sum seen, where version 2 keeps none (before Linux 5.19).
	peak int64
}

// CgroupUsage is what a group's processes hold now, bytes.
type CgroupUsage struct {
	Anonymous int64 // memory that no file backs
	Swap      int64
	Peak      int64 // the most that was ever charged, with the files' pages
	Failures  int64 // how often the limit was met: mostly harmless, files' pages are dropped
	Killed    int64 // processes that the kernel killed for lack of memory
}

const cgroupHint = "run it as root, or in a group that is yours: systemd-run --scope -p Delegate=yes lipstream bench limit ..."

// NewCgroup makes a group with a limit in bytes. The caller closes it.
//
// In version 1 it lies below the group of this process, so that the limits
// which hold here hold there as well. Version 2 gives limits only to children
// of groups without processes, so it is the next group above that may have
// them. Without the right, or without control groups, the error is of kind
// Missing.
func NewCgroup(limit int64) (*Cgroup, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fault.Missing.Wrap("make a control group", errors.New("this system has none"), "memory limits are measured on Linux")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.Missing.Wrap("make a control group", err, cgroupHint)
	}
	version, parents := cgroupParents(string(own), string(mounts))
	if len(parents) == 0 {
		return nil, fault.Missing.New("make a control group", "no hierarchy that controls memory is mounted", cgroupHint)
	}
	for _, parent := range parents {
		if version == 2 && !slices.Contains(strings.Fields(readText(filepath.Join(parent, "cgroup.subtree_control"))), "memory") {
			err = fmt.Errorf("%s gives its children no control of memory", parent)
			continue
		}
		g := &Cgroup{Version: version, Limit: limit}
		if g.Dir, err = os.MkdirTemp(parent, "lipstream-"); err != nil {
			continue
		}
		if err = g.setLimit(); err != nil {
			_ = os.Remove(g.Dir) // it is empty
			continue
		}
		return g, nil
	}
	return nil, fault.Missing.Wrap("make a control group", err, cgroupHint)
}

// cgroupParents reads where the memory controller's groups are, from
// /proc/self/cgroup and /proc/self/mountinfo: folders that a new group may be
// made in, the best first. Without the controller the version is 0.
func cgroupParents(own, mounts string) (version int, parents []string) {
	group := ""
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3:
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			version, group = 1, f[2]
		case f[0] == "0" && version == 0:
			version, group = 2, f[2]
		}
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		v1 := g[0] == "cgroup" && slices.Contains(strings.Split(g[2], ","), "memory")
		if !(version == 1 && v1 || version == 2 && g[0] == "cgroup2") {
			continue
		}
		// In a container often only the part below root is to be seen.
		point, root := f[4], strings.TrimSuffix(f[3], "/")
		rel, ok := strings.CutPrefix(group, root)
		if !ok {
			rel = "/"
		}
		rel = filepath.Clean("/" + rel)
		for {
			parents = append(parents, filepath.Join(point, rel))
			if version == 1 || rel == "/" {
				return version, parents
			}
			rel = filepath.Dir(rel)
		}
	}
	return 0, nil
}

// setLimit sets the limit and forbids swap.
func (g *Cgroup) setLimit() error {
	limit := strconv.FormatInt(g.Limit, 10)
	write := func(name, value string, must bool) error {
		err := os.WriteFile(filepath.Join(g.Dir, name), []byte(value), 0)
		if !must && errors.Is(err, os.ErrNotExist) { // a kernel that does not count swap
			return nil
		}
		return err
	}
	if g.Version == 2 {
		return errors.Join(write("memory.max", limit, true), write("memory.swap.max", "0", false))
	}
	// The sum with swap may not be below the limit without, so it comes last.
	return errors.Join(write("memory.limit_in_bytes", limit, true), write("memory.swappiness", "0", false),
		write("memory.memsw.limit_in_bytes", limit, false))
}

// Command is exec.CommandContext inside the group: the process enters it before
// the program starts, and its children are born in it.
func (g *Cgroup) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	const enter = `echo $$ >"$0" || exit 126; exec "$@"`
	return exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", enter, filepath.Join(g.Dir, "cgroup.procs"), name}, args...)...)
}

// Usage reads what the group uses.
func (g *Cgroup) Usage() (CgroupUsage, error) {
	stat, err := os.ReadFile(filepath.Join(g.Dir, "memory.stat"))
	if err != nil {
		return CgroupUsage{}, fault.Internal.Wrap("read the memory of "+g.Dir, fault.WithoutPath(err))
	}
	number := func(name string) int64 { return parseNumber(readText(filepath.Join(g.Dir, name))) }
	if g.Version == 1 {
		return CgroupUsage{Anonymous: field(string(stat), "total_rss"), Swap: field(string(stat), "total_swap"),
			Peak: number("memory.max_usage_in_bytes"), Failures: number("memory.failcnt"),
			Killed: field(readText(filepath.Join(g.Dir, "memory.oom_control")), "oom_kill")}, nil
	}
	events := readText(filepath.Join(g.Dir, "memory.events"))
	g.peak = max(g.peak, number("memory.current"), number("memory.peak"))
	return CgroupUsage{Anonymous: field(string(stat), "anon"), Swap: number("memory.swap.current"),
		Peak: g.peak, Failures: field(events, "max"), Killed: field(events, "oom_kill")}, nil
}

// Close kills what still runs in the group and removes it. It may be called
// more than once.
func (g *Cgroup) Close() error {
	const patience = 10 * time.Second
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		for pid := range strings.FieldsSeq(readText(filepath.Join(g.Dir, "cgroup.procs"))) {
			n, err := strconv.Atoi(pid)
			if err != nil || n == os.Getpid() {
				continue
			}
			if p, err := os.FindProcess(n); err == nil {
				_ = p.Kill() // it may have ended by itself
			}
		}
		// A group that holds a process, be it a dead one, cannot be removed.
		err := os.Remove(g.Dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Since(began) > patience {
			return fault.Output.Wrap("remove the control group "+g.Dir, fault.WithoutPath(err), "end what runs in it and remove the folder with rmdir")
		}
	}
}

// readText gives a small file without blanks around it; "" when it cannot be read.
func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func parseNumber(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// field finds a line "name number"; 0 without one.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return parseNumber(f[1])
		}
	}
	return 0
}
