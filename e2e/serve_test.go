package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lipstream/lipstream"
	"github.com/lipstream/lipstream/internal/client"
	"github.com/lipstream/lipstream/internal/queue"
)

// TestServe submits, watches, cancels and retries jobs, and restarts the server.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1", "--root", inputs}
	d := startDaemon(t, dir, serve...)
	server := "--server=" + d.address("http://")

	lipstreamCommand(t, dir, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "direct.mp4", "--engine", "preview", "-q")
	lipstreamCommand(t, dir, "submit", server, "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "queued.mp4", "--engine", "preview", "-q")
	if a, b := frameSum(t, filepath.Join(dir, "direct.mp4")), frameSum(t, filepath.Join(dir, "queued.mp4")); a != b {
		t.Errorf("the frames of the server's result differ from those of run: %s, %s", b, a)
	}
	long := strings.TrimSpace(lipstreamCommand(t, dir, "submit", server, "--on-server", "--video", in("long.mp4"), "--audio", in("long.wav"), "--engine", "preview", "--split", "never"))
	waiting := strings.TrimSpace(lipstreamCommand(t, dir, "submit", server, "--on-server", "--video", in("head.mp4"), "--audio", in("one.wav"), "--engine", "preview", "--priority", "low"))
	c := &client.Client{Server: d.address("http://")}
	until(t, c, long, "at work", func(j client.Job) bool { return j.Progress != nil && j.Progress.Frame > 0 })
	lipstreamCommand(t, dir, "cancel", server, long)
	until(t, c, long, "cancelled", func(j client.Job) bool { return j.State == queue.Cancelled })
	waitUntil(t, func() bool {
		return !slices.ContainsFunc(children(d.mark), func(p process) bool { return strings.Contains(p.String(), "long.mp4") })
	})
	lipstreamCommand(t, dir, "retry", server, long)
	until(t, c, waiting, "done", func(j client.Job) bool { return j.State == queue.Done || j.State == queue.Running })

	// Killed, as by the system: after a restart, the waiting and the running jobs still exist.
	again := strings.TrimSpace(lipstreamCommand(t, dir, "submit", server, "--on-server", "--video", in("head.mp4"), "--audio", in("two.wav"), "--engine", "preview"))
	d.signal(syscall.SIGKILL)
	d = startDaemon(t, dir, append(serve, "--lease", "2s", "--attempts", "100")...)
	server = "--server=" + d.address("http://")
	c.Server = d.address("http://")
	lipstreamCommand(t, dir, "cancel", server, long)
	for _, id := range []string{waiting, again} {
		until(t, c, id, "done", func(j client.Job) bool { return j.State == queue.Done })
	}
	table := lipstreamCommand(t, dir, "jobs", server)
	for _, want := range []string{long, waiting, again, "done", "JOB"} {
		if !strings.Contains(table, want) {
			t.Errorf("lipstream jobs does not say %s:\n%s", want, table)
		}
	}
	if log := lipstreamCommand(t, dir, "logs", server, again); !strings.Contains(log, "done") {
		t.Errorf("lipstream logs:\n%s", log)
	}
	if err := d.terminate(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, d.stderr)
	}
	if left := children(d.mark); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestChaos kills workers at random while they work: every job has to end once,
// with the right frames. With LIPSTREAM_LONG it takes LIPSTREAM_CHAOS_KILLS and
// LIPSTREAM_CHAOS_JOBS, and kills at random times.
func TestChaos(t *testing.T) {
	t.Parallel()
	long := os.Getenv(longVariable) != ""
	number := func(name string, short int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && long {
			return n
		}
		return short
	}
	kills, jobs := number("LIPSTREAM_CHAOS_KILLS", 2), number("LIPSTREAM_CHAOS_JOBS", 2)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a-token-for-the-chaos-test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--workers-listen", "127.0.0.1:0", "--token-file", token,
		"--data", filepath.Join(dir, "data"), "--slots", "0", "--lease", "2s", "--attempts", "100")
	c := &client.Client{Server: d.address("http://"), Token: "a-token-for-the-chaos-test"}
	worker := func(n int) *daemon {
		return startDaemon(t, dir, "worker", "--server", d.address("nats://"), "--token-file", token, "--data", filepath.Join(dir, fmt.Sprint("worker", n)), "--slots", "1")
	}
	var workers []*daemon
	for n := range 3 {
		workers = append(workers, worker(n))
	}
	// Short jobs, and some that are split into parts.
	lipstreamCommand(t, dir, "run", "--video", in("head.mp4"), "--audio", in("one.wav"), "-o", "short.mkv", "--codec", "ffv1", "--engine", "preview", "-q")
	if err := ffmpeg(dir, "-stream_loop", "2", "-i", in("head.mp4"), "-c", "copy", "-t", "6", "six.mp4"); err != nil {
		t.Fatal(err)
	}
	lipstreamCommand(t, dir, "run", "--video", "six.mp4", "--audio", in("two.wav"), "-o", "long.mkv", "--codec", "ffv1", "--engine", "preview", "-q")
	want := frameSum(t, filepath.Join(dir, "short.mkv"))
	uploads := map[string]string{}
	for _, path := range []string{in("head.mp4"), in("one.wav"), in("two.wav"), filepath.Join(dir, "six.mp4")} {
		id, err := c.Upload(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		uploads[filepath.Base(path)] = id
	}
	type submitted struct {
		id    string
		split bool
	}
	var all []submitted
	for i := range jobs {
		spec := queue.Spec{Video: queue.Source{Upload: uploads["head.mp4"]}, Audio: queue.Source{Upload: uploads["one.wav"]},
			Name: "out.mkv", Split: -1, Settings: lipstream.Settings{Codec: "ffv1", Engine: "preview"}}
		split := i%3 == 0
		if split {
			spec.Video.Upload, spec.Audio.Upload, spec.Split = uploads["six.mp4"], uploads["two.wav"], 1.5
		}
		j, err := c.Submit(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, submitted{j.ID, split})
	}
	ends := make([]int, jobs) // final events that each listener saw
	var listeners sync.WaitGroup
	for i, s := range all {
		listeners.Go(func() {
			if err := c.Events(t.Context(), s.id, "", func(e client.Event) error {
				if e.Type == "done" || e.Type == "error" {
					ends[i]++
				}
				return nil
			}); err != nil {
				t.Errorf("events of %s: %v", s.id, err)
			}
		})
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	for range kills {
		n := dice.IntN(len(workers))
		if long {
			time.Sleep(time.Duration(500+dice.IntN(2500)) * time.Millisecond)
		} else { // soon enough for a worker to be killed while it works
			waitUntil(t, func() bool {
				n = slices.IndexFunc(workers, working)
				return n >= 0
			})
		}
		workers[n].signal(syscall.SIGKILL)
		workers[n] = worker(n)
	}
	listeners.Wait()
	for i, s := range all {
		j, err := c.Job(t.Context(), s.id)
		if err != nil || j.State != queue.Done || ends[i] != 1 {
			t.Errorf("job %s is %s after %d ends: %+v, %v", s.id, j.State, ends[i], j.Problem, err)
			continue
		}
		path := filepath.Join(dir, s.id+".mkv")
		if err := c.Fetch(t.Context(), s.id, path, false); err != nil {
			t.Fatal(err)
		}
		if !s.split {
			if got := frameSum(t, path); got != want {
				t.Errorf("job %s: frames %s, want %s", s.id, got, want)
			}
			continue
		}
		// Parts that begin within a shot differ invisibly: see TestParts.
		if db := leastPSNR(t, filepath.Join(dir, "long.mkv"), path); db < 40 || j.Result.Frames != 150 {
			t.Errorf("job %s: %d frames, %.1f dB from those of one run", s.id, j.Result.Frames, db)
		}
		if len(j.Tasks) < 3 {
			t.Errorf("job %s was not split: %d tasks", s.id, len(j.Tasks))
		}
	}
	for _, w := range workers {
		if err := w.terminate(); err != nil {
			t.Errorf("a worker ends with %v\n%s", err, w.stderr)
		}
	}
}

// working reports whether a worker has begun a task.
func working(d *daemon) bool { return len(children(d.mark)) > 1 }

// TestServeUntilEOF closes the standard input of a server: it has to end,
// although a page is connected.
func TestServeUntilEOF(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	dir := t.TempDir()
	cmd := exec.Command(binary, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1", "--until-eof")
	cmd.Dir, cmd.Env = dir, environment(dir, newMark())
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
	defer func() { _ = cmd.Process.Kill() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	_, address, found := strings.Cut(strings.TrimSpace(line), "http://")
	if !found {
		t.Fatalf("%q, %v", line, err)
	}
	page, err := http.Get("http://" + address + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = page.Body.Close() }()
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	// A server that closes the connection by force breaks off the stream.
	if _, err := io.Copy(io.Discard, page.Body); err != nil {
		t.Errorf("the page's stream: %v", err)
	}
}
