package memory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCgroup(t *testing.T) {
	linuxOnly(t)
	const (
		v1Mount   = "33 32 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		v2Mount   = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
		unlimited = "9223372036854771712\n"
	)
	// group returns the files of one version-2 group.
	group := func(dir, limit, used, stat string) map[string]string {
		return map[string]string{dir + "/memory.max": limit, dir + "/memory.current": used, dir + "/memory.stat": stat}
	}
	tests := []struct {
		name  string
		files map[string]string
		want  Cgroup
	}{
		{"no cgroups", map[string]string{}, Cgroup{}},
		{"v2 without a limit", join(
			map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2Mount},
			group("sys/fs/cgroup/a/b", "max\n", "5000\n", "inactive_file 100\n"),
		), Cgroup{Version: 2, Path: "/a/b", Used: 5000}},
		{"v2 limit above", join(
			map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2Mount},
			group("sys/fs/cgroup/a/b", "max\n", "5000\n", "inactive_file 100\n"),
			group("sys/fs/cgroup/a", "9000\n", "7000\n", "anon 1\ninactive_file 500\nbroken\n"),
		), Cgroup{Version: 2, Path: "/a", Limit: 9000, Used: 7000, Available: 2500}},
		{"v2 lowest limit and least left are at different levels", join(
			map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": v2Mount},
			group("sys/fs/cgroup/a/b", "4000\n", "1000\n", ""),
			group("sys/fs/cgroup/a", "9000\n", "8500\n", ""),
		), Cgroup{Version: 2, Path: "/a/b", Limit: 4000, Used: 1000, Available: 500}},
		{"v2 memory.high", join(
			map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/a/memory.high": "3000\n"},
			group("sys/fs/cgroup/a", "4000\n", "1000\n", ""),
		), Cgroup{Version: 2, Path: "/a", Limit: 3000, Used: 1000, Available: 2000}},
		{"v2 in a container with a namespace of its own", join(
			map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount},
			group("sys/fs/cgroup", "2000\n", "3000\n", "inactive_file 100\n"),
		), Cgroup{Version: 2, Path: "/", Limit: 2000, Used: 3000, Available: 0}},
		{"v2 moved out of the namespace, mounts unreadable", join(
			map[string]string{"proc/self/cgroup": "0::/../other\n"},
			group("sys/fs/cgroup", "2000\n", "1000\n", ""),
		), Cgroup{Version: 2, Path: "/", Limit: 2000, Used: 1000, Available: 1000}},
		{"v1 nested, empty v2 beside it", map[string]string{
			"proc/self/cgroup":    "9:name=systemd:/\n4:cpu,memory:/x/y:z\n0::/\n",
			"proc/self/mountinfo": "44 32 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" + v1Mount,
			"sys/fs/cgroup/memory/x/y:z/memory.limit_in_bytes": unlimited,
			"sys/fs/cgroup/memory/x/y:z/memory.usage_in_bytes": "100\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes":     "8000\n",
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes":     "5000\n",
			"sys/fs/cgroup/memory/x/memory.stat":               "inactive_file 1\ntotal_inactive_file 1000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":       unlimited,
			"sys/fs/cgroup/memory/memory.usage_in_bytes":       "70000\n",
		}, Cgroup{Version: 1, Path: "/x", Limit: 8000, Used: 5000, Available: 4000}},
		{"v1 in a container that sees only its own group, limited from outside", map[string]string{
			"proc/self/cgroup":                  "4:memory:/docker/abc/job\n",
			"proc/self/mountinfo":               `40 32 0:29 /docker/abc /mnt/c\040g rw - cgroup cgroup rw,memory` + "\n",
			"mnt/c g/job/memory.limit_in_bytes": unlimited,
			"mnt/c g/job/memory.usage_in_bytes": "100\n",
			"mnt/c g/job/memory.stat":           "hierarchical_memory_limit 6000\n",
		}, Cgroup{Version: 1, Path: "/job", Limit: 6000, Used: 100, Available: 5900}},
		{"group is gone", map[string]string{"proc/self/cgroup": "0::/gone\n", "proc/self/mountinfo": v2Mount}, Cgroup{}},
		{"garbage", map[string]string{"proc/self/cgroup": "x\n\n0::\n", "proc/self/mountinfo": " - \nx - y\n"}, Cgroup{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Probe{Root: fakeRoot(t, tt.files)}.Cgroup()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
