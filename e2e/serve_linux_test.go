package e2e_test

import (
	"bufio"
	"bytes"
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

// daemon is a running lipstream serve or lipstream worker.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	stderr *bytes.Buffer
	line   string // first line of standard output
	done   chan struct{}
	err    error
}

// startDaemon starts a daemon and waits for its first line.
func startDaemon(t *testing.T, dir string, args ...string) *daemon {
	t.Helper()
	needRuntime(t)
	makeHome(t, dir)
	d := &daemon{t: t, mark: newMark(), stderr: &bytes.Buffer{}, done: make(chan struct{})}
	d.cmd = exec.Command(binary, args...)
	d.cmd.Dir, d.cmd.Env, d.cmd.Stderr = dir, environment(dir, d.mark), d.stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := d.cmd.StdoutPipe()
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first := make(chan string)
	go func() {
		defer close(d.done)
		line, _ := lines.ReadString('\n')
		first <- line
		_, _ = lines.WriteTo(os.Stderr)
		d.err = d.cmd.Wait()
	}()
	t.Cleanup(func() { d.signal(syscall.SIGKILL) })
	d.line = <-first
	if d.line == "" {
		<-d.done
		t.Fatalf("lipstream %s: %v\n%s", strings.Join(args, " "), d.err, d.stderr)
	}
	return d
}

// signal sends a signal and waits for the end of the daemon.
func (d *daemon) signal(s syscall.Signal) {
	_ = d.cmd.Process.Signal(s)
	<-d.done
}

// address returns the address with a scheme in the first line.
func (d *daemon) address(scheme string) string {
	for _, word := range strings.FieldsFunc(d.line, func(r rune) bool { return strings.ContainsRune(" ,\n", r) }) {
		if strings.HasPrefix(word, scheme) {
			return word
		}
	}
	d.t.Fatalf("no %s in %q", scheme, d.line)
	return ""
}

// frameSum returns a checksum of all decoded frames of a video.
func frameSum(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-f", "md5", "-").Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return strings.TrimSpace(string(out))
}

// lipstreamCommand runs a command that has to succeed.
func lipstreamCommand(t *testing.T, dir string, args ...string) (stdout string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, environment(dir, newMark()), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("lipstream %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

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
	d.signal(syscall.SIGTERM)
	if d.err != nil {
		t.Errorf("SIGTERM: %v\n%s", d.err, d.stderr)
	}
	if left := children(d.mark); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// until waits until a job satisfies ok.
func until(t *testing.T, c *client.Client, id, what string, ok func(client.Job) bool) client.Job {
	t.Helper()
	var j client.Job
	waitUntil(t, func() bool {
		var err error
		j, err = c.Job(t.Context(), id)
		if err == nil && !ok(j) && j.State == queue.Failed {
			t.Fatalf("job %s failed instead of being %s: %+v", id, what, j.Problem)
		}
		return err == nil && ok(j)
	})
	return j
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
		w.signal(syscall.SIGTERM)
		if w.err != nil {
			t.Errorf("a worker ends with %v\n%s", w.err, w.stderr)
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
