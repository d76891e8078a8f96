package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// hostProcfs reads /proc/meminfo.
func (p Probe) hostProcfs() (Host, error) {
	name := p.path("/proc/meminfo")
	data, err := os.ReadFile(name)
	if err != nil {
		return Host{}, err
	}
	f := kilobytes(data, "MemTotal", "MemAvailable", "MemFree", "Buffers", "Cached")
	h := Host{Total: f["MemTotal"], Available: f["MemAvailable"]}
	if h.Total == 0 {
		return Host{}, fmt.Errorf("%s: no MemTotal", name)
	}
	if _, ok := f["MemAvailable"]; !ok { // kernels before 3.14, some containers' lxcfs
		h.Available = f["MemFree"] + f["Buffers"] + f["Cached"]
	}
	return h, nil
}

// SelfStatus gives fields of this process's /proc/self/status in bytes, such as
// VmRSS, VmHWM and RssAnon; those that the system does not tell are absent.
func SelfStatus(fields ...string) map[string]int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	return kilobytes(data, fields...)
}

// kilobytes picks fields out of lines "Name:   123 kB" and gives them in bytes.
func kilobytes(data []byte, names ...string) map[string]int64 {
	got := make(map[string]int64, len(names))
	for line := range bytes.Lines(data) {
		key, rest, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			continue
		}
		for _, name := range names {
			if string(key) != name {
				continue
			}
			if v := bytes.Fields(rest); len(v) > 0 {
				if n, err := strconv.ParseInt(string(v[0]), 10, 64); err == nil {
					got[name] = n * 1024
				}
			}
		}
	}
	return got
}

const (
	// pssCheap is how long reading the PSS of one process may take to be done
	// at every reading.
	pssCheap = 2 * time.Millisecond
	// pssPause is for how long a process whose PSS was slow is read without.
	// The shared part of its memory, libraries mostly, changes little.
	pssPause = 10 * time.Second
)

// reader reads a process tree again and again and remembers what a single
// reading cannot know.
type reader struct {
	probe Probe
	known map[int]*known
	now   func() time.Time
}

// known is what is remembered of a process from reading to reading.
type known struct {
	start  string        // when it began; a number used again is another process
	hwm    int64         // its highest resident set by the kernel's count
	shared int64         // resident set less PSS, the last time both were read
	next   time.Time     // when the PSS may be read again
	cost   time.Duration // of the last reading of the PSS
}

func (p Probe) newReader() *reader {
	return &reader{probe: p, known: map[int]*known{}, now: time.Now}
}

// read gives the usage now, and the highest that it may have been since the
// last read: for a process whose highest resident set has grown meanwhile,
// that is what it counts with, though several need not have been at their
// highest at the same instant.
func (r *reader) read() (u Usage, high int64, err error) {
	if !r.probe.procfs() {
		u, err = r.probe.usagePortable()
		return u, u.Total(), err
	}
	first := len(r.known) == 0
	seen := map[int]bool{}
	root := r.probe.pid()
	for todo := []int{root}; len(todo) > 0; todo = todo[1:] {
		pid := todo[0]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		p, err := r.process(pid, first)
		if err != nil {
			if pid == root {
				return Usage{}, 0, err
			}
			continue // it has ended meanwhile and holds nothing
		}
		if pid == root {
			u.Self = p.now
		} else {
			u.Children += p.now
		}
		u.Mapped += p.mapped
		u.Anonymous += p.anonymous
		u.Processes++
		high += p.high
		todo = append(todo, r.probe.children(pid)...)
	}
	for pid := range r.known {
		if !seen[pid] {
			delete(r.known, pid)
		}
	}
	return u, high, nil
}

// reading is what one process holds, in bytes.
type reading struct {
	now       int64
	high      int64 // the most that it may have held since the last reading
	mapped    int64 // the part of now that is file pages
	anonymous int64 // the part that no file stands behind
}

// process reads one process. At the first reading of all, what was before is
// not of interest.
func (r *reader) process(pid int, first bool) (reading, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	data, err := os.ReadFile(r.probe.path(dir, "status"))
	if err != nil {
		return reading{}, err
	}
	f := kilobytes(data, "VmRSS", "VmHWM", "RssFile", "RssAnon")
	rss, hwm := f["VmRSS"], max(f["VmHWM"], f["VmRSS"])

	k, start := r.known[pid], r.probe.startTime(dir)
	if k == nil || k.start != start {
		k = &known{start: start}
		if first {
			k.hwm = hwm
		}
		r.known[pid] = k
	}
	r.updateShared(k, dir, rss)
	now := max(0, rss-k.shared)
	high := now
	if hwm > k.hwm {
		high = max(now, hwm-k.shared)
		k.hwm = hwm
	}
	// Shared pages are file pages nearly always.
	return reading{now: now, high: high, mapped: min(now, max(0, f["RssFile"]-k.shared)), anonymous: f["RssAnon"]}, nil
}

// updateShared reads the PSS of a process, unless that was slow lately.
func (r *reader) updateShared(k *known, dir string, rss int64) {
	begin := r.now()
	if begin.Before(k.next) {
		return
	}
	data, err := os.ReadFile(r.probe.path(dir, "smaps_rollup"))
	k.cost = r.now().Sub(begin)
	if err != nil || k.cost > pssCheap {
		k.next = begin.Add(pssPause)
	}
	if err != nil {
		return
	}
	// Both from the one file: the resident set has moved on since status.
	f := kilobytes(data, "Rss", "Pss")
	if f["Rss"] == 0 && rss > 0 {
		return // it is just ending
	}
	k.shared = max(0, f["Rss"]-f["Pss"])
}

// startTime is the 22nd field of /proc/PID/stat. The name in the second field
// may hold blanks and brackets, so counting begins after its closing bracket.
func (p Probe) startTime(dir string) string {
	data, err := os.ReadFile(p.path(dir, "stat"))
	if err != nil {
		return ""
	}
	if f := statFields(data); len(f) > 19 {
		return f[19]
	}
	return ""
}

// statFields gives the fields of /proc/PID/stat from the third on (state, parent, ...).
func statFields(data []byte) []string {
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}

// children lists the children of a process. The kernel keeps them per thread;
// where it does not (CONFIG_PROC_CHILDREN is off), every process is asked for
// its parent.
func (p Probe) children(pid int) []int {
	tasks := p.path("/proc", strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return nil
	}
	var pids []int
	for _, t := range threads {
		data, err := os.ReadFile(tasks + "/" + t.Name() + "/children")
		if err != nil {
			if errors.Is(err, os.ErrNotExist) && t.Name() == strconv.Itoa(pid) {
				return p.childrenByParent(pid)
			}
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(data)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

func (p Probe) childrenByParent(parent int) []int {
	entries, err := os.ReadDir(p.path("/proc"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(p.path("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		if f := statFields(data); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}
