package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVariable makes the test binary play a program.
const roleVariable = "LIPSTREAM_TEST_CHILD_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

func play(role string) int {
	switch role {
	case "good":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "a warning")
	case "bad":
		fmt.Fprint(os.Stderr, "first\nno space left")
		return 3
	case "chatty":
		for {
			if _, err := fmt.Println(strings.Repeat("x", 1000)); err != nil {
				return 1
			}
		}
	case "echo": // until the end of its input
		signal.Ignore(os.Interrupt)
		_, _ = io.Copy(os.Stdout, os.Stdin)
		fmt.Println("end of input")
		return 130
	case "polite": // ends at an interrupt
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		fmt.Println("ready")
		<-c
		fmt.Println("cleaned up")
		return 130
	case "parent", "starter": // with a process of its own that does not end
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleVariable+"=mute") // only this process writes a line
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if role == "starter" {
			if _, err := Start(context.Background(), cmd, 0); err != nil {
				return 1
			}
		} else if err := cmd.Start(); err != nil {
			return 1
		}
		fmt.Println(cmd.Process.Pid)
		forever()
	case "deaf":
		signal.Ignore(os.Interrupt)
		fmt.Println("ready")
		forever()
	case "mute":
		forever()
	default:
		return playHere(role)
	}
	return 0
}

// forever does not return. A select without cases would be a deadlock.
func forever() { time.Sleep(1<<63 - 1) }

func program(role string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

// reader starts a role and reads its first line.
func reader(t *testing.T, ctx context.Context, role string, grace time.Duration) (*Process, *bufio.Reader, string) {
	t.Helper()
	p, r, err := StartReader(ctx, program(role), grace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		_ = p.Wait()
		_ = r.Close()
	})
	b := bufio.NewReader(r)
	line, err := b.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return p, b, strings.TrimSpace(line)
}

// missing reports whether err says that a program does not exist. On Windows, os/exec
// looks for it first.
func missing(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound)
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), program("good"), 0, 100)
	if err != nil || string(out) != "out\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, err = Output(t.Context(), program("bad"), 0, 100)
	x, ok := errors.AsType[*ExitError](err)
	if !ok || x.Code != 3 || x.Signal != 0 || !slices.Equal(x.Stderr, []string{"first", "no space left"}) {
		t.Errorf("%#v", err)
	} else if !strings.HasSuffix(err.Error(), "failed with exit code 3: no space left") {
		t.Error(err)
	}
	if _, err = Output(t.Context(), program("chatty"), 0, 1<<16); err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Error(err)
	}
	if _, err = Output(t.Context(), exec.Command(filepath.Join(t.TempDir(), "no such program")), 0, 1); !missing(err) {
		t.Error(err)
	}
	reason := errors.New("not wanted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if _, err = Output(ctx, program("good"), 0, 100); !errors.Is(err, reason) {
		t.Error(err)
	}
}

func TestKill(t *testing.T) {
	p, _, _ := reader(t, t.Context(), "deaf", 0)
	p.Kill()
	err := p.Wait()
	<-p.Done()
	x, ok := errors.AsType[*ExitError](err)
	if !ok || runtime.GOOS != "windows" && (x.Signal != syscall.SIGKILL || !strings.Contains(x.End(), "killed by signal 9")) {
		t.Errorf("%v", err)
	}
	if p.State() == nil {
		t.Error("the state of the process is unknown")
	}
	p.Kill() // nothing is left
}

// TestGrace: a process is interrupted first, and killed where that is not enough.
func TestGrace(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted here")
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, out, _ := reader(t, ctx, "polite", time.Hour)
	cancel()
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "cleaned up\n" {
		t.Errorf("%q, %v", rest, err)
	}
	if err := p.Wait(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if code := p.State().ExitCode(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	ctx, cancel = context.WithCancel(t.Context())
	p, _, _ = reader(t, ctx, "deaf", time.Millisecond)
	cancel()
	if err := p.Wait(); !errors.Is(err, context.Canceled) || exitSignal(p.State()) != syscall.SIGKILL {
		t.Errorf("%v, %v", err, p.State())
	}
}

// TestPipes: what is written arrives, and a process that is to end sees the end of its
// input, on every system.
func TestPipes(t *testing.T) {
	for _, c := range []struct {
		role  string
		grace time.Duration
		rest  string
	}{{"echo", time.Hour, "end of input\n"}, {"deaf", time.Millisecond, ""}} {
		ctx, cancel := context.WithCancel(t.Context())
		p, in, out, err := StartPipes(ctx, program(c.role), c.grace)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.WriteString("ready\n"); err != nil {
			t.Error(err)
		}
		b := bufio.NewReader(out)
		if line, err := b.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
			t.Errorf("%q, %v", line, err)
		}
		cancel()
		rest, err := io.ReadAll(b)
		if err != nil || string(rest) != c.rest {
			t.Errorf("%s: %q, %v", c.role, rest, err)
		}
		if err := p.Wait(); !errors.Is(err, context.Canceled) || p.State().Success() {
			t.Errorf("%s: %v, %v", c.role, err, p.State())
		}
		_ = in.Close()
		_ = out.Close()
	}
	if _, _, _, err := StartPipes(t.Context(), exec.Command(filepath.Join(t.TempDir(), "no such program")), 0); !missing(err) {
		t.Error(err)
	}
}

// TestNothingIsLeft: what a process started dies with it.
func TestNothingIsLeft(t *testing.T) {
	p, _, line := reader(t, t.Context(), "parent", 0)
	p.Kill()
	_ = p.Wait()
	gone(t, line)
}

// TestDeathOfParent: a process dies with the program that started it, even if that is
// killed with -9.
func TestDeathOfParent(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		t.Skip("this system has nothing for it")
	}
	cmd := program("starter")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	gone(t, strings.TrimSpace(line))
}

// gone waits until a process that is not a child of ours has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	for !ended(n) && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

func TestExitError(t *testing.T) {
	for code, want := range map[int]string{
		3:          "x failed with exit code 3",
		0xC0000005: "x failed with exit code 0xc0000005",
	} {
		if got := (&ExitError{Program: "x", Code: code}).Error(); got != want {
			t.Errorf("%d: %q, want %q", code, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	var s tail
	for i := range 100 {
		_, _ = fmt.Fprintf(&s, "line %d\r", i)
		_, _ = fmt.Fprintf(&s, "same\nsame\n")
	}
	_, _ = s.Write([]byte(strings.Repeat("x", 5000)))
	lines := s.lines()
	if len(lines) != tailLines || lines[tailLines-2] != "same" || lines[tailLines-3] != "line 99" || len(lines[tailLines-1]) != tailWidth {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	if again := s.lines(); !slices.Equal(again, lines) {
		t.Errorf("asked again: %q", again)
	}
}
