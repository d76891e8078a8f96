package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/queue"
)

// oldCommit is the last commit of version 0.1.0's queue: its workers want a server of
// exactly their version.
const oldCommit = "bd0b7bc"

// buildOld builds the program of an older commit.
func buildOld(t *testing.T, dir string) string {
	t.Helper()
	source := filepath.Join(dir, "source")
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := exec.Command("git", "archive", oldCommit)
	archive.Dir = ".."
	unpack := exec.Command("tar", "x", "-C", source)
	var err error
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := unpack.Start(); err != nil {
		t.Fatal(err)
	}
	if err := archive.Run(); err != nil {
		t.Skipf("the history does not have commit %s: %v", oldCommit, err)
	}
	if err := unpack.Wait(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old")
	build := exec.Command("go", "build", "-o", old, "./cmd/lipstream")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", oldCommit, err, out)
	}
	return old
}

// TestUpgrade upgrades workers and server one after the other, in both orders, while jobs
// are running: none is lost, and none is made twice.
func TestUpgrade(t *testing.T) {
	needLong(t)
	build := t.TempDir()
	old := buildOld(t, build)
	for _, order := range []string{"workers first", "server first"} {
		t.Run(order, func(t *testing.T) {
			dir := t.TempDir()
			token := filepath.Join(dir, "token")
			if err := os.WriteFile(token, []byte("a-token-for-the-upgrade\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			start := func(program string, args ...string) *daemon {
				t.Helper()
				now := binary
				defer func() { binary = now }()
				binary = program
				return startDaemon(t, dir, args...)
			}
			var c *client.Client
			server := func(program, workers string) *daemon {
				d := start(program, "serve", "--listen", "127.0.0.1:0", "--workers-listen", workers, "--token-file", token, "--data", filepath.Join(dir, "data"), "--slots", "0")
				c = &client.Client{Server: d.address("http://"), Token: "a-token-for-the-upgrade"}
				return d
			}
			d := server(old, "127.0.0.1:0")
			place := strings.TrimPrefix(d.address("nats://"), "nats://")
			worker := func(program, name string) *daemon {
				return start(program, "worker", "--server", "nats://"+place, "--token-file", token, "--data", filepath.Join(dir, name), "--slots", "1", "--grace", "1h")
			}
			lipstreamCommand(t, dir, "run", "--video", in("head.mp4"), "--audio", in("two.wav"), "-o", "direct.mkv", "--codec", "ffv1", "--engine", "preview", "-q")
			want := frameSum(t, filepath.Join(dir, "direct.mkv"))
			var spec queue.Spec
			spec.Name, spec.Split, spec.Settings = "out.mkv", -1, lipstream.Settings{Codec: "ffv1", Engine: "preview"}
			for path, to := range map[string]*queue.Source{in("head.mp4"): &spec.Video, in("two.wav"): &spec.Audio} {
				id, err := c.Upload(t.Context(), path, nil)
				if err != nil {
					t.Fatal(err)
				}
				to.Upload = id
			}
			var ids []string
			submit := func() {
				t.Helper()
				j, err := c.Submit(t.Context(), spec)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, j.ID)
			}
			first := worker(old, "w1")
			for range 3 {
				submit()
			}
			waitUntil(t, func() bool { return working(first) })
			upgradeServer := func() {
				d.signal(syscall.SIGTERM)
				d = server(binary, place)
			}
			upgradeWorker := func() *daemon {
				second := worker(binary, "w2") // beside the old one
				waitUntil(t, func() bool { return working(second) })
				first.signal(syscall.SIGTERM) // it finishes its task
				if first.err != nil {
					t.Errorf("the old worker: %v\n%s", first.err, first.stderr)
				}
				return second
			}
			var second *daemon
			if order == "workers first" {
				second = upgradeWorker()
				submit()
				upgradeServer()
			} else {
				upgradeServer()
				submit()
				second = upgradeWorker()
			}
			submit()
			for _, id := range ids {
				j := until(t, c, id, "done", func(j client.Job) bool { return j.State == queue.Done })
				path := filepath.Join(dir, id+".mkv")
				if err := c.Fetch(t.Context(), id, path, false); err != nil {
					t.Fatal(err)
				}
				if got := frameSum(t, path); got != want || j.Tasks[0].Attempts != 1 {
					t.Errorf("job %s: %d attempts, frames %s, want %s", id, j.Tasks[0].Attempts, got, want)
				}
			}
			for _, x := range []*daemon{second, d} {
				x.signal(syscall.SIGTERM)
				if x.err != nil {
					t.Errorf("%v\n%s", x.err, x.stderr)
				}
			}
		})
	}
}
