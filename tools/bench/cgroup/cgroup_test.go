package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/fault"
)

// allocateVariable makes the test binary hold as many MiB until its standard
// input ends.
const allocateVariable = "LIPSTREAM_TEST_ALLOCATE"

func TestMain(m *testing.M) {
	n, err := strconv.Atoi(os.Getenv(allocateVariable))
	if err != nil {
		os.Exit(m.Run())
	}
	block := make([]byte, n<<20)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	fmt.Println("allocated")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(block)
}

// newGroup makes a group, or skips the test where that is not permitted.
func newGroup(t *testing.T, limit int64) *Group {
	t.Helper()
	g, err := New(limit)
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

// allocate starts a process that holds so many MiB in the group, and returns
// what the group uses when the process has them or was killed for them.
func allocate(t *testing.T, g *Group, mib int) (u Usage, err error) {
	t.Helper()
	t.Setenv(allocateVariable, strconv.Itoa(mib))
	cmd := g.Command(os.Args[0])
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = bufio.NewReader(out).ReadString('\n') // nothing from a process that was killed
	u, usageErr := g.Usage()
	_ = in.Close()
	return u, errors.Join(cmd.Wait(), usageErr)
}

// TestGroup runs real processes under real limits.
func TestGroup(t *testing.T) {
	const mib = 1 << 20
	g := newGroup(t, 256*mib)
	u, err := allocate(t, g, 60)
	if err != nil {
		t.Errorf("60 of 256 MiB: %v", err)
	}
	if u.Anonymous < 60*mib || u.Anonymous > g.Limit || u.Peak < u.Anonymous || u.Swap != 0 || u.Killed != 0 {
		t.Errorf("60 of 256 MiB: %+v", u)
	}
	u, err = allocate(t, g, 400)
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		t.Errorf("400 of 256 MiB: the process ended with %v", err)
	}
	if u.Killed == 0 || u.Anonymous > g.Limit {
		t.Errorf("400 of 256 MiB: %+v", u)
	}
}

// TestClose: what still runs in a group is killed, and the group is gone.
func TestClose(t *testing.T) {
	g := newGroup(t, 256<<20)
	cmd := g.Command("sh", "-c", "echo running; exec sleep 1000000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
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
	if _, err := g.Usage(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the usage of a group that is gone: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestParentFolders(t *testing.T) {
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
		version, parents := parentFolders(c.own, c.mounts)
		if diff := cmp.Diff(c.parents, parents); diff != "" || version != c.version {
			t.Errorf("%s: version %d, %s", c.name, version, diff)
		}
	}
}
