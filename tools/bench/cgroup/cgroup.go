// Package cgroup runs processes under a memory limit that the kernel enforces.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// Group is a control group with a memory limit and without swap, in which Command runs
// processes. It exists on Linux only. Source: the kernel's admin-guide/cgroup-v1/memory.rst
// and admin-guide/cgroup-v2.rst.
type Group struct {
	Version int    // 1 or 2
	Dir     string // the group's folder
	Limit   int64  // bytes
	peak    int64  // the highest sample; version 2 records none before Linux 5.19
}

// Usage is the memory that the processes of a group use, in bytes.
type Usage struct {
	Anonymous int64 // memory that no file backs
	Swap      int64
	Peak      int64 // the most that was ever charged, including the pages of files
	Failures  int64 // how often the limit was reached; mostly harmless: the kernel drops pages of files
	Killed    int64 // number of processes that the kernel killed for lack of memory
}

const hint = "run it as root, or in a group that you own: systemd-run --scope -p Delegate=yes go run ./tools/bench limit ..."

// New makes a group with a limit in bytes. The caller must close it.
//
// With version 1 the group is a child of the group of this process, whose limits then
// apply as well. Version 2 allows limits only below groups without processes, so the parent
// is the nearest ancestor that can have children. If this is not permitted, or there are
// no control groups, the error is of kind Missing.
func New(limit int64) (*Group, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fault.Missing.Wrap("make a control group", errors.New("this system has no control groups"), "run this on Linux")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.Missing.Wrap("make a control group", err, hint)
	}
	version, parents := parentFolders(string(own), string(mounts))
	if len(parents) == 0 {
		return nil, fault.Missing.New("make a control group", "no hierarchy that controls memory is mounted", hint)
	}
	for _, parent := range parents {
		if version == 2 && !slices.Contains(strings.Fields(readText(path.Join(parent, "cgroup.subtree_control"))), "memory") {
			err = fmt.Errorf("%s does not allow its children to limit memory", parent)
			continue
		}
		g := &Group{Version: version, Limit: limit}
		if g.Dir, err = os.MkdirTemp(parent, "lipstream-"); err != nil {
			continue
		}
		if err = g.setLimit(); err != nil {
			_ = os.Remove(g.Dir) // it is empty
			continue
		}
		return g, nil
	}
	return nil, fault.Missing.Wrap("make a control group", err, hint)
}

// parentFolders returns the folders in which a new group may be made, the best first. own
// and mounts are the contents of /proc/self/cgroup and /proc/self/mountinfo. Without a
// memory controller the version is 0.
func parentFolders(own, mounts string) (version int, parents []string) {
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
		// In a container, often only the part below root is visible.
		point, root := f[4], strings.TrimSuffix(f[3], "/")
		rel, ok := strings.CutPrefix(group, root)
		if !ok {
			rel = "/"
		}
		rel = path.Clean("/" + rel)
		for {
			parents = append(parents, path.Join(point, rel))
			if version == 1 || rel == "/" {
				return version, parents
			}
			rel = path.Dir(rel)
		}
	}
	return 0, nil
}

// setLimit sets the limit and forbids swap.
func (g *Group) setLimit() error {
	limit := strconv.FormatInt(g.Limit, 10)
	write := func(name, value string, must bool) error {
		err := os.WriteFile(path.Join(g.Dir, name), []byte(value), 0)
		if !must && errors.Is(err, os.ErrNotExist) { // a kernel that does not count swap
			return nil
		}
		return err
	}
	if g.Version == 2 {
		return errors.Join(write("memory.max", limit, true), write("memory.swap.max", "0", false))
	}
	// The limit with swap must not be below the one without, so it is set last.
	return errors.Join(write("memory.limit_in_bytes", limit, true), write("memory.swappiness", "0", false),
		write("memory.memsw.limit_in_bytes", limit, false))
}

// Command returns a command that runs in the group, with all its children: the process
// enters the group before it starts the program.
func (g *Group) Command(name string, args ...string) *exec.Cmd {
	const enter = `echo $$ >"$0" || exit 126; exec "$@"`
	return exec.Command("/bin/sh", append([]string{"-c", enter, path.Join(g.Dir, "cgroup.procs"), name}, args...)...)
}

// Usage returns what the group uses.
func (g *Group) Usage() (Usage, error) {
	content, err := os.ReadFile(path.Join(g.Dir, "memory.stat"))
	if err != nil {
		return Usage{}, fault.Internal.Wrap("read the memory of "+g.Dir, fault.WithoutPath(err))
	}
	stat := string(content)
	text := func(name string) string { return readText(path.Join(g.Dir, name)) }
	number := func(name string) int64 { return parseNumber(text(name)) }
	if g.Version == 1 {
		return Usage{Anonymous: field(stat, "total_rss"), Swap: field(stat, "total_swap"),
			Peak: number("memory.max_usage_in_bytes"), Failures: number("memory.failcnt"),
			Killed: field(text("memory.oom_control"), "oom_kill")}, nil
	}
	events := text("memory.events")
	g.peak = max(g.peak, number("memory.current"), number("memory.peak"))
	return Usage{Anonymous: field(stat, "anon"), Swap: number("memory.swap.current"),
		Peak: g.peak, Failures: field(events, "max"), Killed: field(events, "oom_kill")}, nil
}

// Close kills the processes in the group and removes it. It may be called more than once.
// It returns an error if the group cannot be removed within 10 s.
func (g *Group) Close() error {
	const patience = 10 * time.Second
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		for pid := range strings.FieldsSeq(readText(path.Join(g.Dir, "cgroup.procs"))) {
			n, err := strconv.Atoi(pid)
			if err != nil || n == os.Getpid() {
				continue
			}
			if p, err := os.FindProcess(n); err == nil {
				_ = p.Kill() // it may have ended already
			}
		}
		// A group with a process, even a dead one, cannot be removed.
		err := os.Remove(g.Dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if time.Since(began) > patience {
			return fault.Output.Wrap("remove the control group "+g.Dir, fault.WithoutPath(err), "stop what runs in it and remove the folder with rmdir")
		}
	}
}

// readText returns the content of a small file without surrounding white space, or "".
func readText(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// parseNumber returns the number in s, or 0 if it is another text, such as "max".
func parseNumber(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// field returns the number of a line "name number", or 0.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return parseNumber(f[1])
		}
	}
	return 0
}
