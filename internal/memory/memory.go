// Package memory measures the memory of the host, of the control group that this
// process runs in, of the process with its children, and of the GPUs. It also
// chooses plans: how a job uses a given amount of memory.
//
// On Linux it reads /proc and /sys, which takes microseconds. On other systems it
// uses gopsutil.
package memory

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/shirou/gopsutil/v4/process"
)

// Probe reads memory figures. The zero value reads this process on this machine.
type Probe struct {
	// Root is prepended to every path that is read (/proc, /sys and the mount
	// points found there), for tests.
	Root string
	// PID is the process to measure; 0 is this one.
	PID int
	// NVML is the path of NVIDIA's management library; "" leaves the search to
	// the system's loader.
	NVML string

	// portable makes tests use gopsutil, as on systems without /proc.
	portable bool
}

// Host is the memory of the machine, in bytes.
type Host struct {
	Total int64
	// Available is what can be allocated without swapping: free memory and the
	// caches that the system can drop, on Windows at most what the system can still commit.
	Available int64
}

// Usage is the memory of a process and its children, in bytes.
//
// The figure of a process is its resident memory, with pages that it shares with
// other processes divided among them (PSS), so that the sum over a tree counts
// each page once. Mapped files, such as weights, count while they are resident.
// Swapped-out memory does not count.
//
// To count the PSS, the kernel walks the page tables, which takes about 10 ms for
// a process of several GB. If that was slow for a process, the next readings take
// its resident set, which costs nothing, less the difference between the two at
// the last reading of both. Where there is no PSS (other systems, old kernels,
// processes of other users) Usage counts the resident set.
//
// On Windows the figure is what the process has committed, in memory or in page
// files. Mapped files do not count, so Mapped is 0.
type Usage struct {
	Self      int64 // this process
	Children  int64 // its children, their children and so on
	Mapped    int64 // the part of both in pages of files, which the kernel can drop and read again
	Processes int   // how many processes, this one included
	// Anonymous is the part of both without a file (RssAnon): heaps, stacks and
	// buffers, which can only be swapped. Pages that a process shares with its
	// parent after a fork count in both. It is 0 where it is not known (macOS).
	Anonymous int64
}

// Total returns the memory of the whole tree.
func (u Usage) Total() int64 { return u.Self + u.Children }

// Host reads the memory of the machine.
func (p Probe) Host() (Host, error) {
	if p.procfs() {
		return p.hostProcfs()
	}
	return hostPortable()
}

// Usage reads the current memory of the process and its children.
func (p Probe) Usage() (Usage, error) {
	u, _, err := p.newReader().read()
	return u, err
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

// Self returns the memory of this process, without its children: on Windows what it has
// committed, else its resident set. It is much faster than Usage where there is no /proc.
func Self() (int64, error) {
	p, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return 0, err
	}
	info, err := p.MemoryInfo()
	if err != nil {
		return 0, err
	}
	used, _ := held(info)
	return used, nil
}

// usagePortable reads the usage with gopsutil, on systems without /proc.
func (p Probe) usagePortable() (Usage, error) {
	self, err := process.NewProcess(int32(p.pid()))
	if err != nil {
		return Usage{}, err
	}
	info, err := self.MemoryInfo()
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	u.Self, u.Anonymous = held(info)
	u.Processes = 1
	// A process that ends meanwhile is not an error: it holds nothing.
	seen := map[int32]bool{self.Pid: true}
	for todo := []*process.Process{self}; len(todo) > 0; {
		children, err := todo[0].Children()
		todo = todo[1:]
		if err != nil && !errors.Is(err, process.ErrorNoChildren) {
			continue
		}
		for _, c := range children {
			if seen[c.Pid] {
				continue // a reused process ID
			}
			seen[c.Pid] = true
			if info, err := c.MemoryInfo(); err == nil {
				used, anonymous := held(info)
				u.Children += used
				u.Anonymous += anonymous
				u.Processes++
				todo = append(todo, c)
			}
		}
	}
	return u, nil
}
