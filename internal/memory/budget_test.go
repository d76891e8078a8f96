package memory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// job is a process 10 with 1000 MiB, 400 of them mapped, and a child 11 with
// 100 MiB of its own, on a machine with available MiB.
func job(available int) map[string]string {
	kb := func(mb int) string { return fmt.Sprintf("%d kB\n", mb<<10) }
	return join(
		proc("10", "1", "100", "11", "VmRSS: "+kb(1000)+"RssAnon: "+kb(600)+"RssFile: "+kb(400), "Rss: "+kb(1000)+"Pss: "+kb(1000)),
		proc("11", "10", "101", "", "VmRSS: "+kb(100)+"RssAnon: "+kb(100)+"RssFile: "+kb(0), "Rss: "+kb(100)+"Pss: "+kb(100)),
		map[string]string{"proc/meminfo": "MemTotal: " + kb(64<<10) + "MemAvailable: " + kb(available)},
	)
}

// inGroup puts process 10 into a control group with figures in MiB.
func inGroup(version int, dir string, limit, used, inactive, active int) map[string]string {
	mb := func(n int) string { return fmt.Sprintf("%d\n", n*mib) }
	if version == 1 {
		at := "sys/fs/cgroup/memory" + dir
		return map[string]string{
			"proc/10/cgroup":              "4:memory:" + dir + "\n0::/\n",
			"proc/10/mountinfo":           "33 32 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			at + "/memory.limit_in_bytes": mb(limit), at + "/memory.usage_in_bytes": mb(used),
			at + "/memory.stat": "active_file 1\ninactive_file 1\ntotal_inactive_file " + mb(inactive) + "total_active_file " + mb(active),
		}
	}
	at := "sys/fs/cgroup" + dir
	return map[string]string{
		"proc/10/cgroup":    "0::" + dir + "\n",
		"proc/10/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		at + "/memory.max":  mb(limit), at + "/memory.current": mb(used),
		at + "/memory.stat": "inactive_file " + mb(inactive) + "active_file " + mb(active),
	}
}

// TestBudget: the job and its child hold 700 MiB of anonymous memory. All figures
// are in MiB.
func TestBudget(t *testing.T) {
	linuxOnly(t)
	const machine = "free memory of the machine"
	type row struct {
		name  string
		files map[string]string
		limit int64
		want  int64
		from  string
	}
	tests := []row{
		{"free memory less 5 %", job(19300), 0, 19000, machine},
		{"free memory less 256 MiB", job(1300), 0, 2000 - 256, machine},
		{"next to nothing is free", join(job(0), map[string]string{"proc/10/status": "VmRSS: 4 kB\nRssAnon: 4 kB\n", "proc/10/smaps_rollup": "", "proc/10/task/10/children": ""}), 0, 0, machine},
		{"the setting", job(19300), 3000, 3000, "`memory_limit`"},
		{"the setting, hardly less than what is free", job(19300), 19900, 19900, "`memory_limit`"},
		{"the setting, more than what is free", job(19300), 30000, 20000, machine},
		{"a negative limit is none", job(19300), -1, 19000, machine},
	}
	for version := 1; version <= 2; version++ {
		group := func(dir string, limit, used, inactive, active int) map[string]string {
			return inGroup(version, dir, limit, used, inactive, active)
		}
		v := fmt.Sprintf("v%d, ", version)
		const of = "limit of the control group "
		tests = append(tests, []row{
			// Used: the job's 700 and its 400 mapped, and 900 of other programs.
			{v + "others hold memory", join(job(19300), group("/a", 4000, 2000, 0, 0)), 0, 2700, of + "/a"},
			{v + "others hold caches", join(job(19300), group("/a", 4000, 2000, 900, 0)), 0, 3600, of + "/a"},
			{v + "others hold caches in active use", join(job(19300), group("/a", 4000, 2000, 0, 1300)), 0, 3600, of + "/a"},
			{v + "the caches in active use are what we map", join(job(19300), group("/a", 4000, 2000, 0, 400)), 0, 2700, of + "/a"},
			{v + "never more than the limit", join(job(19300), group("/a", 4000, 1000, 600, 900)), 0, 4000, of + "/a"},
			{v + "nothing but ours is left", join(job(19300), group("/a", 1000, 1000, 0, 0)), 0, 700, of + "/a"},
			{v + "the setting is lower", join(job(19300), group("/a", 4000, 1100, 0, 0)), 3000, 3000, "`memory_limit`"},
			{v + "the setting is higher", join(job(19300), group("/a", 4000, 1100, 0, 0)), 5000, 3600, of + "/a"},
			{v + "the machine has less", join(job(1300), group("/a", 4000, 1100, 0, 0)), 0, 2000 - 256, machine},
			{v + "the lowest limit is not the least left", join(job(19300), group("/a", 9000, 8500, 100, 700), group("/a/b", 4000, 1100, 0, 600)), 0,
				600 + 700 + 200, of + "/a/b"},
		}...)
	}
	high := join(job(19300), inGroup(2, "/a", 4000, 1100, 0, 0))
	high["sys/fs/cgroup/a/memory.high"] = fmt.Sprint(3500 * mib)
	none := join(job(19300), inGroup(2, "/a", 0, 1100, 0, 0))
	none["sys/fs/cgroup/a/memory.max"] = "max\n"
	broken := join(job(19300), inGroup(2, "/a", 4000, 1100, 0, 0))
	broken["sys/fs/cgroup/a/memory.stat"] = "active_file lots\n"
	tests = append(tests, []row{
		{"memory.high", high, 0, 3100, "limit of the control group /a"},
		{"a group without a limit", none, 0, 19000, machine},
		{"a statistic that is no number", broken, 0, 3600, "limit of the control group /a"},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Probe{Root: fakeRoot(t, tt.files), PID: 10}.Budget(tt.limit*mib, nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(Budget{Host: tt.want * mib, HostFrom: tt.from}, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestBudgetOfGPU(t *testing.T) {
	linuxOnly(t)
	p := Probe{Root: fakeRoot(t, job(19300)), PID: 10}
	for _, tt := range []struct {
		name string
		gpu  GPU
		want int64
		from string
	}{
		{"large", GPU{Vendor: "nvidia", Index: 1, Total: 24 * gib, Used: 4 * gib}, 19 * gib, "free memory of nvidia:1"},
		{"small", GPU{Vendor: "amd", Total: 2 * gib, Used: gib}, gib - 256*mib, "free memory of amd:0"},
		{"full", GPU{Vendor: "amd", Total: 2 * gib, Used: 2*gib - mib}, 0, "free memory of amd:0"},
		{"shared", GPU{Vendor: "intel", Shared: true, Total: 8 * gib}, 0, ""},
		{"not told", GPU{Vendor: "intel"}, 0, ""},
	} {
		b, err := p.Budget(0, &tt.gpu)
		if err != nil || b.Device != tt.want || b.DeviceFrom != tt.from || b.Host != 19000*mib {
			t.Errorf("%s: %+v, %v", tt.name, b, err)
		}
	}
	// A limit on main memory does not limit the GPU.
	if b, err := p.Budget(gib, &GPU{Vendor: "nvidia", Total: 24 * gib, Used: 4 * gib}); err != nil || b.Device != 19*gib || b.Host != gib {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestBudgetUnread(t *testing.T) {
	linuxOnly(t)
	files := job(19300)
	delete(files, "proc/meminfo")
	for name, files := range map[string]map[string]string{"no process": {}, "no meminfo": files} {
		if b, err := (Probe{Root: fakeRoot(t, files), PID: 10}).Budget(gib, nil); err == nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

// TestBudgetHere reads this machine.
func TestBudgetHere(t *testing.T) {
	for _, p := range []Probe{{}, {portable: true}} {
		b, err := p.Budget(0, nil)
		if err != nil || b.Host <= 0 || b.HostFrom == "" {
			t.Errorf("%+v, %v", b, err)
		}
		if b, err = p.Budget(1, nil); err != nil || b.Host != 1 || !strings.Contains(b.HostFrom, "limit") {
			t.Errorf("a byte: %+v, %v", b, err)
		}
	}
}

// TestWindows covers cards by their nominal size and by what is free of it.
func TestWindows(t *testing.T) {
	left := func(total, used int64) int64 {
		free := total - used
		return free - reserve(free)
	}
	for _, tt := range []struct {
		name   string
		usable int64
		want   int
	}{
		{"nothing", 0, 1}, {"6 GB", 6 * gib, 1},
		{"8 GB, all of it", 8 * gib, 1}, {"and a byte", 8*gib + 1, 2},
		{"12 GB, a desktop", left(12*gib, gib), 2}, {"16 GB", left(16*gib, gib), 2},
		{"20e9 bytes", 20e9, 2}, {"and a byte", 20e9 + 1, 4},
		{"24 GB", left(24*gib, 0), 4}, {"24 GB, a desktop", left(24*gib, 2*gib), 4},
		{"24 GB with ECC", left(22731*mib, 0), 4}, {"80 GB", left(80*gib, 0), 4},
	} {
		if got := Windows(tt.usable); got != tt.want {
			t.Errorf("%s: %s: %d, want %d", tt.name, Size(tt.usable), got, tt.want)
		}
	}
}
