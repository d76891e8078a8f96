package memory

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
)

// hostProcfs reads /proc/meminfo.
func (p Probe) hostProcfs() (Host, error) {
	f, err := p.numbers("/proc/meminfo")
	if err != nil {
		return Host{}, err
	}
	h := Host{Total: f["MemTotal"], Available: f["MemAvailable"]}
	if h.Total == 0 {
		return Host{}, errors.New("/proc/meminfo: no MemTotal")
	}
	if _, ok := f["MemAvailable"]; !ok { // kernels before 3.14, some containers' lxcfs
		h.Available = f["MemFree"] + f["Buffers"] + f["Cached"]
	}
	return h, nil
}

// SelfStatus returns the numbers in /proc/self/status, sizes in bytes, such as VmRSS,
// VmHWM and RssAnon. Other systems than Linux have none.
func SelfStatus() map[string]int64 {
	if !(Probe{}).procfs() { // what a compatibility layer shows as /proc is another system's
		return nil
	}
	f, _ := Probe{}.numbers("/proc/self/status")
	return f
}

// numbers returns the numbers in a file of lines "name 123" or "Name: 123 kB", by
// name.
func (p Probe) numbers(elem ...string) (map[string]int64, error) {
	data, err := os.ReadFile(p.path(elem...))
	if err != nil {
		return nil, err
	}
	found := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		if len(f) > 2 && f[2] == "kB" {
			n <<= 10
		}
		found[strings.TrimSuffix(f[0], ":")] = n
	}
	return found, nil
}

const (
	// pssCheap is the longest time that reading the PSS of a process may take to
	// be part of every reading.
	pssCheap = 2 * time.Millisecond
	// pssPause is how long a slow PSS is not read again. The shared part of the
	// memory, mostly libraries, changes little.
	pssPause = 10 * time.Second
)

// reader reads a process tree repeatedly, and keeps what it learns of each
// process from reading to reading.
type reader struct {
	probe Probe
	known map[int]*known
	now   func() time.Time
}

// known is what a reader keeps of a process.
type known struct {
	start  string        // when the process began, to recognise reused process IDs
	hwm    int64         // its highest resident set, as counted by the kernel
	shared int64         // resident set less PSS, the last time both were read
	next   time.Time     // when the PSS may be read again
	cost   time.Duration // of the last reading of the PSS
}

func (p Probe) newReader() *reader {
	return &reader{probe: p, known: map[int]*known{}, now: time.Now}
}

// read returns the usage now, and an upper bound of the usage since the last read:
// a process whose highest resident set has grown counts with that, even though
// several processes may have had their peaks at different times.
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
			continue // it has ended and holds nothing
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

// reading is the memory of one process, in bytes.
type reading struct {
	now       int64
	high      int64 // the most that it may have held since the last reading
	mapped    int64 // the part of now in pages of files
	anonymous int64 // the part without a file
}

// process reads one process. At the first reading of all, earlier peaks do not
// count.
func (r *reader) process(pid int, first bool) (reading, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	f, err := r.probe.numbers(dir, "status")
	if err != nil {
		return reading{}, err
	}
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
	// Nearly all shared pages are pages of files.
	return reading{now: now, high: high, mapped: min(now, max(0, f["RssFile"]-k.shared)), anonymous: f["RssAnon"]}, nil
}

// updateShared reads the PSS of a process, unless that was slow recently.
func (r *reader) updateShared(k *known, dir string, rss int64) {
	begin := r.now()
	if begin.Before(k.next) {
		return
	}
	// Both from one file: the resident set may have changed since status was read.
	f, err := r.probe.numbers(dir, "smaps_rollup")
	k.cost = r.now().Sub(begin)
	if err != nil || k.cost > pssCheap {
		k.next = begin.Add(pssPause)
	}
	if err != nil {
		return
	}
	if f["Rss"] == 0 && rss > 0 {
		return // it is just ending
	}
	k.shared = max(0, f["Rss"]-f["Pss"])
}

// startTime returns the 22nd field of /proc/PID/stat.
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

// statFields returns the fields of /proc/PID/stat from the third on (state, parent,
// ...). The name in the second field may contain spaces and brackets, so counting
// begins after its closing bracket.
func statFields(data []byte) []string {
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}

// children lists the children of a process. The kernel lists them by thread. If
// it does not (CONFIG_PROC_CHILDREN is off), children looks at the parent of every
// process.
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
