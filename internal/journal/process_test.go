package journal

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// childTask and childDir are the variables that make the test binary a child of a
// test: what to do, and in which folder.
const childTask, childDir = "LIPSTREAM_JOURNAL_TASK", "LIPSTREAM_JOURNAL_DIR"

var tasks = map[string]func(dir string) error{"append": appendForever}

func TestMain(m *testing.M) {
	if task, ok := tasks[os.Getenv(childTask)]; ok {
		if err := task(os.Getenv(childDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, task, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childTask+"="+task, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// numbered returns the n-th record of a child, large enough for a kill to hit it.
func numbered(n int) Record {
	r := Record{First: int64(n), Frames: 16, Fresh: 12, Plan: fmt.Appendf(nil, `{"n":%d}`, n), Latents: make([]float32, 64<<10)}
	random := rand.New(rand.NewPCG(uint64(n), 0))
	for i := range r.Latents {
		r.Latents[i] = math.Float32frombits(random.Uint32()) // cannot be compressed
	}
	return r
}

// childOutput returns the temporary output that a child notes and creates.
func childOutput(dir string) string {
	return filepath.Join(dir, fmt.Sprintf(".out.lipstream-%d-0123456789ab.mp4", os.Getpid()))
}

// appendForever continues the journal and prints the number of each record that is
// on the disk.
func appendForever(dir string) error {
	j, err := Open(dir, "key", job)
	if err != nil {
		return err
	}
	output := childOutput(dir)
	if err := j.Note(output); err != nil {
		return err
	}
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		return err
	}
	n := 0
	for ; ; n++ {
		if _, ok, err := j.Next(); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	for ; ; n++ {
		if err := j.Append(numbered(n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill repeatedly kills a process that appends, and continues its journal. Every
// record whose Append returned must be there, and at most one more.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		cmd := child(t, "append", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := -1
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // killed; half a line was not said
			}
			if said, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
				t.Fatal(err)
			}
			if round == 0 && n == 0 {
				checkBusy(t, dir, cmd.Process.Pid)
			}
			if n == round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		output := filepath.Join(dir, fmt.Sprintf(".out.lipstream-%d-0123456789ab.mp4", cmd.Process.Pid))
		checkThere(t, true, output)

		j := mustOpen(t, dir, job)
		checkThere(t, false, output)
		if j.Fresh() != "" {
			t.Fatalf("round %d: fresh %q", round, j.Fresh())
		}
		n := 0
		for ; ; n++ {
			r, ok, err := j.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if !same(r, numbered(n)) {
				t.Fatalf("round %d: record %d is not what was appended", round, n)
			}
		}
		if n < said+1 || n > said+2 {
			t.Fatalf("round %d: %d records are there, %d were appended", round, n, said+1)
		}
		mustClose(t, j)
	}
}

// checkBusy opens a journal that another process has open.
func checkBusy(t *testing.T, dir string, pid int) {
	t.Helper()
	_, err := Open(dir, "key", job)
	if fault.KindOf(err) != fault.Output || fault.HintOf(err) == "" ||
		!strings.Contains(err.Error(), fmt.Sprintf("another lipstream is making the same output (process %d)", pid)) {
		t.Errorf("while process %d has it: %v", pid, err)
	}
	if err := Sweep(dir, 0); err != nil {
		t.Errorf("sweep: %v", err)
	}
	checkThere(t, true, filepath.Join(dir, "key", journalName))
}

// TestLockRace opens, removes and sweeps one job from several goroutines: one of
// them holds it at a time, and what it appends is its own.
func TestLockRace(t *testing.T) {
	dir := t.TempDir()
	var holders atomic.Int32
	side := func(n int) error {
		for i := 0; i < 3; {
			j, err := Open(dir, "key", job)
			if fault.KindOf(err) == fault.Output && strings.Contains(err.Error(), "another lipstream") {
				continue
			}
			if err != nil {
				return err
			}
			i++
			if holders.Add(1) != 1 {
				err = fmt.Errorf("two hold the job")
			}
			for ok := err == nil; ok; {
				_, ok, err = j.Next()
			}
			if err == nil {
				err = j.Append(small()[i%3])
			}
			holders.Add(-1)
			leave := j.Close
			if (n+i)%2 == 0 {
				leave = j.Remove
			}
			if e := leave(); err == nil {
				err = e
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	var sides, sweeper sync.WaitGroup
	done := make(chan struct{})
	sweeper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := Sweep(dir, 0); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n := range 4 {
		sides.Go(func() {
			if err := side(n); err != nil {
				t.Error(err)
			}
		})
	}
	sides.Wait()
	close(done)
	sweeper.Wait()
}
