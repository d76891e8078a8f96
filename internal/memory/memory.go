// Package memory measures memory: of the host, of the control group that this
// process runs in, of the process with its children, and of the GPUs. It only
// measures; what to do about it is decided elsewhere.
//
// On Linux everything is read from /proc and /sys, which costs microseconds.
// Elsewhere gopsutil asks the system.
package memory

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

// Probe reads memory figures. Its zero value is this process on this machine.
type Probe struct {
	// Root is put in front of every path that is read (/proc, /sys and the
	// mount points found there), for tests.
	Root string
	// PID is the process to look at; 0 is this one.
	PID int
	// NVML is the path of NVIDIA's management library; "" looks where the
	// system's loader does.
	NVML string

	// portable leaves /proc alone, as on systems that have none; for tests.
	portable bool
}

// Host is the memory of the machine, in bytes.
type Host struct {
	Total int64
	// Available is what can be had without swapping: free memory and the
	// caches that the system would let go.
	Available int64
}

// Usage is what a process and its children hold, in bytes.
//
// The figure of a process is its resident memory, with pages that it shares
// with other processes divided among them (PSS), so that the sum over a tree
// counts each page once: three ffmpegs do not hold their libraries three
// times. Mapped files, weights among them, count while they are resident.
// Swapped-out memory does not count.
//
// PSS makes the kernel walk the page tables, some 10 ms for a process of
// several GB. For a process where it was slow, the following readings take the
// resident set, which the kernel counts anyway, less what sharing made of the
// difference the last time; see [Meter]. Where there is no PSS at all (other
// systems, old kernels, processes of other users) it is the resident set.
type Usage struct {
	Self      int64 // this process
	Children  int64 // its children, their children and so on
	Mapped    int64 // the part of both that is file pages, which the kernel can drop and read again
	Processes int   // how many processes, this one included
	// Anonymous is the part of both that no file stands behind (RssAnon): heaps,
	// stacks and buffers, which can only be swapped. Pages that a process shares
	// with its parent after a fork count in both. 0 where the system does not
	// tell: it is told by Linux.
	Anonymous int64
}

// Total is what the whole tree holds.
func (u Usage) Total() int64 { return u.Self + u.Children }

// Host reads the memory of the machine.
func (p Probe) Host() (Host, error) {
	if p.procfs() {
		return p.hostProcfs()
	}
	v, err := mem.VirtualMemory()
	if err != nil {
		return Host{}, err
	}
	return Host{Total: int64(v.Total), Available: int64(v.Available)}, nil
}

// Usage reads what the process and its children hold now.
func (p Probe) Usage() (Usage, error) {
	u, _, err := p.newReader().read()
	return u, err
}

// Available is what this process may still take: the host's available memory
// or what is left under the control group's limit, whichever is less.
func (p Probe) Available() (int64, error) {
	h, err := p.Host()
	if err != nil {
		return 0, err
	}
	g, err := p.Cgroup()
	if err != nil {
		return 0, err
	}
	if g.Limit > 0 {
		return min(h.Available, g.Available), nil
	}
	return h.Available, nil
}

func (p Probe) procfs() bool { return runtime.GOOS == "linux" && !p.portable }

func (p Probe) path(elem ...string) string {
	return filepath.Join(p.Root, filepath.Join(elem...))
}

func (p Probe) pid() int {
	if p.PID != 0 {
		return p.PID
	}
	return os.Getpid()
}

// usagePortable asks gopsutil, where there is no /proc.
func (p Probe) usagePortable() (Usage, error) {
	self, err := process.NewProcess(int32(p.pid()))
	if err != nil {
		return Usage{}, err
	}
	info, err := self.MemoryInfo()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Self: int64(info.RSS), Processes: 1}
	// A process that ends while it is looked at is no error, it holds nothing.
	seen := map[int32]bool{self.Pid: true}
	for todo := []*process.Process{self}; len(todo) > 0; {
		children, err := todo[0].Children()
		todo = todo[1:]
		if err != nil && !errors.Is(err, process.ErrorNoChildren) {
			continue
		}
		for _, c := range children {
			if seen[c.Pid] {
				continue // a number used again while we look
			}
			seen[c.Pid] = true
			if info, err := c.MemoryInfo(); err == nil {
				u.Children += int64(info.RSS)
				u.Processes++
				todo = append(todo, c)
			}
		}
	}
	return u, nil
}
