package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/queue"
)

func (n *natsNode) start() {
	n.t.Helper()
	if err := n.tryStart(); err != nil {
		n.t.Fatal(err)
	}
}

// tryStart returns an error if the node ends before it is ready.
func (n *natsNode) tryStart() error {
	n.t.Helper()
	b, err := json.Marshal(n)
	if err != nil {
		n.t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd = exec.Command(program)
	n.cmd.Env, n.cmd.Stderr = append(os.Environ(), natsVariable+"="+string(b)), os.Stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := n.cmd.StdoutPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("a NATS server ended: %q, %w", line, errors.Join(err, n.cmd.Wait()))
	}
	return nil
}

func (n *natsNode) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// startCluster starts three nodes and returns them with their addresses.
func startCluster(t *testing.T, dir string) (nodes []*natsNode, urls string) {
	t.Helper()
	const ports = 5 // another program may take a free port first
	for n := 1; ; n++ {
		nodes, urls, err := tryCluster(t, filepath.Join(dir, fmt.Sprint("cluster", n)))
		if err == nil {
			return nodes, urls
		}
		if n == ports {
			t.Fatal(err)
		}
	}
}

func tryCluster(t *testing.T, dir string) (nodes []*natsNode, urls string, err error) {
	t.Helper()
	// The nodes need each other's ports before they start.
	var ports []int
	var held []net.Listener
	for range 6 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports, held = append(ports, l.Addr().(*net.TCPAddr).Port), append(held, l)
	}
	for _, l := range held {
		_ = l.Close()
	}
	var addresses []string
	for i := range 3 {
		n := &natsNode{t: t, Name: fmt.Sprint("node", i), Dir: filepath.Join(dir, fmt.Sprint("nats", i)), Port: ports[i], RoutePort: ports[3+i], Routes: ports[3:]}
		if err := n.tryStart(); err != nil {
			for _, n := range nodes {
				n.kill()
			}
			return nil, "", err
		}
		t.Cleanup(n.kill)
		nodes, addresses = append(nodes, n), append(addresses, fmt.Sprintf("nats://127.0.0.1:%d", n.Port))
	}
	return nodes, strings.Join(addresses, ","), nil
}

// TestCluster runs a server and two workers on a cluster of three NATS servers, with three
// copies of everything. With LIPSTREAM_LONG it kills the node that leads the queue in the
// middle of jobs, several times, each after the last node is back.
func TestCluster(t *testing.T) {
	t.Parallel()
	rounds, jobs := 1, 3
	kills := os.Getenv(longVariable) != ""
	if kills {
		rounds, jobs = 6, 6
	}
	dir := t.TempDir()
	nodes, urls := startCluster(t, dir)
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--nats", urls, "--slots", "0", "--attempts", "20", "--lease", "12s"} // longer than an election
	if stderr := failing(t, dir, append(serve, "--replicas", "5", "--data", filepath.Join(dir, "five"))...); !strings.Contains(stderr, "5 copies need as many NATS servers") || !strings.Contains(stderr, "hint: ") {
		t.Errorf("five copies on three servers: %s", stderr)
	}
	if kills { // the copies of what exists are added later
		startDaemon(t, dir, append(serve, "--data", filepath.Join(dir, "data"))...).signal(syscall.SIGTERM)
	}
	d := startDaemon(t, dir, append(serve, "--replicas", "3", "--data", filepath.Join(dir, "data"))...)
	c := &client.Client{Server: d.address("http://")}
	var workers []*daemon
	for n := range 2 {
		workers = append(workers, startDaemon(t, dir, "worker", "--server", urls, "--data", filepath.Join(dir, fmt.Sprint("worker", n)), "--slots", "1"))
	}
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	complete := func(c *jetstream.ClusterInfo) bool {
		return c != nil && c.Leader != "" && len(c.Replicas) == 2 && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
	}
	// leader returns the node that leads the stream of tasks, when all three have a copy.
	leader := func() (found int) {
		waitUntil(t, func() bool {
			for _, name := range []string{"KV_lipstream_jobs", "OBJ_lipstream_media", "LIPSTREAM_WORK"} {
				s, err := js.Stream(t.Context(), name)
				if err != nil || s.CachedInfo().Config.Replicas != 3 || !complete(s.CachedInfo().Cluster) {
					return false
				}
				found = slices.IndexFunc(nodes, func(n *natsNode) bool { return n.Name == s.CachedInfo().Cluster.Leader })
			}
			line, err := js.Consumer(t.Context(), "LIPSTREAM_WORK", "preview-normal")
			return err == nil && complete(line.CachedInfo().Cluster) && found >= 0
		})
		return found
	}
	lipstreamCommand(t, dir, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "short.mkv", "--codec", "ffv1", "--engine", "preview", "-q")
	want := frameSum(t, filepath.Join(dir, "short.mkv"))
	var video, audio string
	for path, id := range map[string]*string{in("head.mp4"): &video, in("one.wav"): &audio} {
		if *id, err = c.Upload(t.Context(), path, nil); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	var mu sync.Mutex
	ends := map[string]int{} // final events of each job
	var listeners sync.WaitGroup
	for round := range rounds {
		victim := leader()
		for range jobs {
			j, err := c.Submit(t.Context(), queue.Spec{Video: queue.Source{Upload: video}, Audio: queue.Source{Upload: audio}, Name: "out.mkv",
				Split: -1, Settings: lipstream.Settings{Codec: "ffv1", Engine: "preview"}})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, j.ID)
			listeners.Go(func() {
				if err := c.Events(t.Context(), j.ID, "", func(e client.Event) error {
					mu.Lock()
					defer mu.Unlock()
					if e.Type == "done" || e.Type == "error" {
						ends[j.ID]++
					}
					return nil
				}); err != nil {
					t.Errorf("events of %s: %v", j.ID, err)
				}
			})
		}
		if kills {
			waitUntil(t, func() bool { return slices.ContainsFunc(workers, working) })
			nodes[victim].kill()
		}
		for _, id := range ids {
			until(t, c, id, "done", func(j client.Job) bool { return j.State == queue.Done })
		}
		if round < rounds-1 {
			nodes[victim].start()
		}
	}
	listeners.Wait()
	for _, id := range ids {
		path := filepath.Join(dir, id+".mkv")
		if err := c.Fetch(t.Context(), id, path, false); err != nil {
			t.Fatal(err)
		}
		if got := frameSum(t, path); got != want || ends[id] != 1 {
			t.Errorf("job %s: frames %s, want %s; %d ends", id, got, want, ends[id])
		}
	}
	if all, err := c.Jobs(t.Context(), "", 1000); err != nil || len(all) != len(ids) {
		t.Errorf("%d jobs, want %d; %v", len(all), len(ids), err)
	}
	for _, w := range append(workers, d) {
		w.signal(syscall.SIGTERM)
		if w.err != nil {
			t.Errorf("%v\n%s", w.err, w.stderr)
		}
	}
}

// failing runs a command that has to fail and returns what it prints.
func failing(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env = dir, environment(dir, newMark())
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("lipstream %s: no error", strings.Join(args, " "))
	}
	if err := checkMessage(string(out)); err != nil {
		t.Error(err)
	}
	return string(out)
}
