package memory

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// fakeRoot builds a directory with the given files, for Probe.Root.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		writeFile(t, filepath.Join(root, name), text)
	}
	return root
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func linuxOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 * 1024: "1.5 MiB", 1024*mib - 1: "1.0 GiB",
		12 * gib: "12.0 GiB", 5000 * gib: "4.9 TiB", -mib: "-1.0 MiB",
		math.MaxInt64: "8388608.0 TiB", math.MinInt64: "-4194304.0 TiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestHostProcfs(t *testing.T) {
	linuxOnly(t)
	tests := []struct {
		name, meminfo string
		want          Host
		wantErr       bool
	}{
		{"usual", "MemTotal:       16000 kB\nMemFree:  100 kB\nMemAvailable:    9000 kB\nHugePages_Total:       0\n", Host{16000 << 10, 9000 << 10}, false},
		{"old kernel", "MemTotal: 16000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 3 kB\n", Host{16000 << 10, 123 << 10}, false},
		{"none available", "MemTotal: 16000 kB\nMemAvailable: 0 kB\nMemFree: 100 kB\n", Host{16000 << 10, 0}, false},
		{"garbage", "MemTotal: lots\n:::\n", Host{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Probe{Root: fakeRoot(t, map[string]string{"proc/meminfo": tt.meminfo})}.Host()
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if _, err := (Probe{Root: t.TempDir()}).Host(); err == nil {
		t.Error("no error without /proc")
	}
}

// proc is the files of one process.
func proc(pid, ppid, start, threads string, status, rollup string) map[string]string {
	files := map[string]string{
		"proc/" + pid + "/stat":   pid + " (a) b (c) S " + ppid + strings.Repeat(" 0", 17) + " " + start + " 0 0",
		"proc/" + pid + "/status": status,
	}
	if rollup != "" {
		files["proc/"+pid+"/smaps_rollup"] = rollup
	}
	files["proc/"+pid+"/task/"+pid+"/children"] = threads
	return files
}

func join(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// tree is a process 10 with children 11 and, from a second thread, 12, and a
// grandchild 13. 14 is not one of its children, and 15 ends during the reading.
func tree() map[string]string {
	return join(
		proc("10", "1", "100", "11 15 ", "VmHWM: 2000 kB\nVmRSS: 1000 kB\nRssAnon: 600 kB\nRssFile: 400 kB\n", "x\nRss: 1000 kB\nPss: 900 kB\n"),
		map[string]string{"proc/10/task/16/children": "12"},
		proc("11", "10", "101", "13", "VmHWM: 500 kB\nVmRSS: 400 kB\nRssFile: 300 kB\n", "Rss: 400 kB\nPss: 150 kB\n"),
		proc("12", "10", "102", "", "VmHWM: 300 kB\nVmRSS: 300 kB\nRssAnon:\t     300 kB\nRssFile: 0 kB\n", ""), // without permission for details
		proc("13", "11", "103", "", "VmHWM: 20 kB\nVmRSS: 20 kB\n", "Rss: 20 kB\nPss: 20 kB\n"),
		proc("14", "1", "104", "", "VmHWM: 9000 kB\nVmRSS: 9000 kB\n", "Rss: 9000 kB\nPss: 9000 kB\n"),
	)
}

func TestUsageOfTree(t *testing.T) {
	linuxOnly(t)
	want := Usage{Self: 900 << 10, Children: (150 + 300 + 20) << 10, Mapped: (300 + 50) << 10, Processes: 4, Anonymous: (600 + 300) << 10}
	root := fakeRoot(t, tree())
	got, err := Probe{Root: root, PID: 10}.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	// The same on a kernel that does not list children.
	lists, err := filepath.Glob(filepath.Join(root, "proc/*/task/*/children"))
	if err != nil || len(lists) == 0 {
		t.Fatal(lists, err)
	}
	for _, name := range lists {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err = Probe{Root: root, PID: 10}.Usage()
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("by parents: %v (-want +got):\n%s", err, d)
	}

	if _, err := (Probe{Root: root, PID: 99}).Usage(); err == nil {
		t.Error("no error for a process that does not exist")
	}
}

// TestReaderRemembers follows one tree over several readings.
func TestReaderRemembers(t *testing.T) {
	linuxOnly(t)
	root := fakeRoot(t, proc("10", "1", "100", "", "VmHWM: 9000 kB\nVmRSS: 1000 kB\n", "Rss: 1000 kB\nPss: 900 kB\n"))
	r := Probe{Root: root, PID: 10}.newReader()
	clock, step := time.Unix(0, 0), 10*time.Millisecond // every PSS reading is slow
	r.now = func() time.Time { clock = clock.Add(step); return clock }
	set := func(pid, status, rollup string) {
		writeFile(t, filepath.Join(root, "proc", pid, "status"), status)
		writeFile(t, filepath.Join(root, "proc", pid, "smaps_rollup"), rollup)
	}
	check := func(what string, wantNow, wantHigh int64) {
		t.Helper()
		u, high, err := r.read()
		if err != nil || u.Total() != wantNow<<10 || high != wantHigh<<10 {
			t.Errorf("%s: now %d, high %d, %v; want %d and %d", what, u.Total()>>10, high>>10, err, wantNow, wantHigh)
		}
	}
	check("what was before does not matter", 900, 900)
	set("10", "VmHWM: 9000 kB\nVmRSS: 2000 kB\n", "Rss: 2000 kB\nPss: 2000 kB\n")
	check("slow PSS is not read again at once", 1900, 1900)
	set("10", "VmHWM: 9500 kB\nVmRSS: 2000 kB\n", "Rss: 2000 kB\nPss: 2000 kB\n")
	check("a spike between two readings", 1900, 9400)
	check("it is reported once", 1900, 1900)
	clock = clock.Add(pssPause)
	check("the PSS is read again after the pause", 2000, 2000)

	// A child appears that has already had its peak.
	for name, text := range proc("11", "10", "200", "", "VmHWM: 700 kB\nVmRSS: 500 kB\n", "Rss: 500 kB\nPss: 500 kB\n") {
		writeFile(t, filepath.Join(root, name), text)
	}
	writeFile(t, filepath.Join(root, "proc/10/task/10/children"), "11")
	check("a child's peak before it was seen", 2500, 2700)
	// Its number is used again by another process.
	writeFile(t, filepath.Join(root, "proc/11/stat"), "11 (x) S 10"+strings.Repeat(" 0", 17)+" 300 0")
	check("another process of the same number", 2500, 2700)
	writeFile(t, filepath.Join(root, "proc/10/task/10/children"), "")
	check("the child has ended", 2000, 2000)
	if len(r.known) != 1 {
		t.Errorf("%d processes remembered", len(r.known))
	}
}

// TestUsageHere compares the usage of this process with that of gopsutil, alone
// and with a small child.
func TestUsageHere(t *testing.T) {
	ballast := make([]byte, 64*mib)
	for i := range ballast {
		ballast[i] = byte(i)
	}
	debug.FreeOSMemory() // nothing else may be given back between the two readings
	alone, err := Probe{}.Usage()
	if err != nil {
		t.Fatal(err)
	}
	portable, err := Probe{portable: true}.Usage()
	if err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(ballast)
	if alone.Self < 64*mib || portable.Self < 64*mib || alone.Self > portable.Self+32*mib {
		t.Errorf("self %s, by gopsutil %s", Size(alone.Self), Size(portable.Self))
	}

	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("no cat to be a child")
	}
	cmd := exec.Command(cat)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	// A child that answers has begun to use memory.
	_, err = stdin.Write([]byte{1})
	if _, e := stdout.Read(make([]byte, 1)); err != nil || e != nil {
		t.Fatal(err, e)
	}
	for _, p := range []Probe{{}, {portable: true}} {
		u, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.Processes < 2 || u.Children <= 0 || u.Children > 100*mib {
			t.Errorf("portable %v: with a child %+v", p.portable, u)
		}
	}
}

func TestHostHere(t *testing.T) {
	for _, p := range []Probe{{}, {portable: true}} {
		h, err := p.Host()
		if err != nil {
			t.Fatal(err)
		}
		if h.Total < 64*mib || h.Available <= 0 || h.Available > h.Total {
			t.Errorf("portable %v: %+v", p.portable, h)
		}
	}
	if _, err := (Probe{}).Cgroup(); err != nil {
		t.Error(err)
	}
	if _, err := (Probe{}).GPUs(); err != nil {
		t.Error(err)
	}
}

func BenchmarkUsage(b *testing.B) {
	r := Probe{}.newReader()
	for b.Loop() {
		if _, _, err := r.read(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSelf: Self counts the same as Usage.
func TestSelf(t *testing.T) {
	n, err := Self()
	u, err2 := Probe{portable: true}.Usage()
	if err != nil || err2 != nil || n < u.Self/2 || n > u.Self*2 {
		t.Errorf("%s, %v; usage %+v, %v", Size(n), err, u, err2)
	}
}
