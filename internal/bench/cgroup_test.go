package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/fault"
)

// allocateVariable makes the test binary hold as many MiB for a second and end.
const allocateVariable = "LIPSTREAM_BENCH_ALLOCATE"

func init() {
	n, err := strconv.Atoi(os.Getenv(allocateVariable))
	if err != nil {
		return
	}
	block := make([]byte, n<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	time.Sleep(time.Second)
	runtime.KeepAlive(block)
	os.Exit(0)
}

// newCgroup makes a group or skips the test where that is not permitted.
func newCgroup(t *testing.T, limit int64) *Cgroup {
	t.Helper()
	g, err := NewCgroup(limit)
	if fault.KindOf(err) == fault.Missing && err != nil {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// allocate runs a child that holds so many MiB in the group, and gives the most
// that was seen.
func allocate(t *testing.T, g *Cgroup, mib int) (most CgroupUsage, err error) {
	t.Helper()
	t.Setenv(allocateVariable, strconv.Itoa(mib))
	cmd := g.Command(t.Context(), os.Args[0])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		u, usageErr := g.Usage()
		if usageErr != nil {
			t.Error(usageErr)
		}
		most.Anonymous = max(most.Anonymous, u.Anonymous)
		most.Peak, most.Swap, most.Killed = max(most.Peak, u.Peak), max(most.Swap, u.Swap), u.Killed
		select {
		case err = <-done:
			u, _ := g.Usage()
			most.Killed = u.Killed
			return most, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestCgroup runs real processes under real limits.
func TestCgroup(t *testing.T) {
	const mib = 1 << 20
	g := newCgroup(t, 256*mib)
	most, err := allocate(t, g, 60)
	if err != nil {
		t.Errorf("60 of 256 MiB: %v", err)
	}
	if most.Anonymous < 60*mib || most.Anonymous > g.Limit || most.Peak < most.Anonymous || most.Swap != 0 || most.Killed != 0 {
		t.Errorf("60 of 256 MiB: %+v", most)
	}
	most, err = allocate(t, g, 400)
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Errorf("400 of 256 MiB: the process ended with %v", err)
	}
	if most.Killed == 0 || most.Anonymous > g.Limit {
		t.Errorf("400 of 256 MiB: %+v", most)
	}
}

// TestCgroupClose: what still runs in a group is ended, and the group is gone.
func TestCgroupClose(t *testing.T) {
	g := newCgroup(t, 256<<20)
	cmd := g.Command(context.Background(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; readText(g.Dir+"/cgroup.procs") == "" && i < 500; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err == nil {
		t.Error("it ended by itself")
	}
	if _, err := os.Stat(g.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestCgroupParents(t *testing.T) {
	const (
		v1 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
		v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct {
		name, own, mounts string
		version           int
		parents           []string
	}{
		{"version 1", "8:pids:/\n4:memory:/a/b\n0::/\n", v1, 1, []string{"/sys/fs/cgroup/memory/a/b"}},
		{"version 1 in a container", "4:memory:/docker/x\n", "36 31 0:33 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", 1, []string{"/sys/fs/cgroup/memory"}},
		{"version 2", "0::/user.slice/a.scope\n", v2, 2, []string{"/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"}},
		{"version 2 in a namespace", "0::/../../b\n", v2, 2, []string{"/sys/fs/cgroup/b", "/sys/fs/cgroup"}},
		{"not mounted", "4:memory:/a\n", v2, 0, nil},
		{"none", "", "", 0, nil},
	} {
		version, parents := cgroupParents(c.own, c.mounts)
		if diff := cmp.Diff(c.parents, parents); diff != "" || version != c.version {
			t.Errorf("%s: version %d, %s", c.name, version, diff)
		}
	}
}
