package e2e_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

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
	return startInside(t, nil, dir, args...)
}

// startInside starts a daemon with a program that runs the rest of its command line.
func startInside(t *testing.T, wrapper []string, dir string, args ...string) *daemon {
	t.Helper()
	command := slices.Concat(wrapper, []string{binary}, args)
	needRuntime(t)
	makeHome(t, dir)
	d := &daemon{t: t, mark: newMark(), stderr: &bytes.Buffer{}, done: make(chan struct{})}
	d.cmd = exec.Command(command[0], command[1:]...)
	d.cmd.Dir, d.cmd.Env, d.cmd.Stderr = dir, environment(dir, d.mark), d.stderr
	ownGroup(d.cmd)
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
