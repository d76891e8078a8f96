package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal of 100 columns: user is the end that the
// user sees and types into, program the end of the program.
func openTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = user.Close() })
	var number int
	conn, err := user.SyscallConn()
	if err == nil {
		err = errors.Join(conn.Control(func(fd uintptr) {
			err = errors.Join(unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
				unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}))
			if err == nil {
				number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}
		}), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return user, program
}

// onTerminal runs the job in a session with a new terminal, as a shell would.
// Whenever the job prints something, see gets everything that was shown so far.
// onTerminal returns all of it when the job has ended.
func (j *job) onTerminal(see func(user *os.File, shown []byte)) string {
	j.t.Helper()
	user, program := openTerminal(j.t)
	j.cmd.Stdin, j.cmd.Stdout, j.cmd.Stderr = program, program, program
	j.cmd.Env = append(j.cmd.Env, "TERM=xterm")
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := j.cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	_ = program.Close()
	go func() {
		j.err = j.cmd.Wait()
		close(j.done)
	}()
	j.t.Cleanup(func() {
		_ = j.cmd.Process.Kill()
		<-j.done
	})
	var shown bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := user.Read(buf)
		shown.Write(buf[:n])
		if errors.Is(err, syscall.EIO) || errors.Is(err, io.EOF) { // the program is gone
			<-j.done
			return shown.String()
		}
		if err != nil {
			j.t.Fatalf("%v; shown: %q", err, shown.String())
		}
		see(user, shown.Bytes())
	}
}

// screen returns the lines that remain on the screen: of a line that is redrawn,
// the last state.
func screen(text string) []string {
	var out []string
	for row := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		var cells []rune
		for part := range strings.SplitSeq(row, "\r") {
			for i, r := range []rune(part) {
				if i < len(cells) {
					cells[i] = r
				} else {
					cells = append(cells, r)
				}
			}
		}
		if line := strings.TrimRight(string(cells), " "); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func TestProgressBar(t *testing.T) {
	t.Parallel()
	j := newJob(t, t.TempDir(), "run", "--video", in("head.mp4"), "--audio", in("two.wav"), "-o", "out.mp4")
	j.cmd.Env = append(j.cmd.Env, "NO_COLOR=1")
	shown := j.onTerminal(func(*os.File, []byte) {})
	if j.err != nil {
		t.Errorf("%v: %s", j.err, shown)
	}
	if !regexp.MustCompile(`\r *\d+% \|[█░]+\|  frames \d+/50 `).MatchString(shown) {
		t.Errorf("no progress bar: %q", shown)
	}
	if strings.Contains(shown, "\x1b") {
		t.Errorf("escape sequences despite NO_COLOR: %q", shown)
	}
	left := screen(shown)
	if len(left) < 3 || !strings.HasPrefix(left[2], "STAGE ") || !strings.HasPrefix(left[0], "engine preview (") || !strings.HasPrefix(left[1], "done: out.mp4, 50 frames") {
		t.Errorf("left on the screen: %q", left)
	}
}

// TestControlC types Ctrl-C, which interrupts the whole foreground process
// group, including ffmpeg if it belongs to the group.
func TestControlC(t *testing.T) {
	t.Parallel()
	j := newJob(t, t.TempDir(), "run", "--video", in("long.mp4"), "--audio", in("long.wav"), "-o", "out.mp4")
	frames := regexp.MustCompile(`frames [1-9]\d*/1500`)
	typed := false
	shown := j.onTerminal(func(user *os.File, shown []byte) {
		if typed || !frames.Match(shown) {
			return
		}
		typed = true
		if _, err := user.Write([]byte{3}); err != nil {
			t.Error(err)
		}
	})
	if !typed {
		t.Errorf("no frames were shown: %q", shown)
	}
	if code, err := exitOf(j.err); code != 130 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	left := screen(shown)
	if last := left[len(left)-1]; !strings.Contains(last, "lipstream: ") || strings.Contains(last, "%") {
		t.Errorf("left on the screen: %q", left)
	}
	j.leavesNothing()
}
