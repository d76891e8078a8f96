package wheels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/fault"
)

// clients are the programs that can download a wheel for another Python than
// the one they run in, in the order in which they are tried. uv has no
// download of its own, but runs pip.
func clients() [][]string {
	return [][]string{
		{"python3", "-m", "pip"},
		{"pip3"},
		{"pip"},
		{"python", "-m", "pip"},
		{"uv", "tool", "run", "pip"},
	}
}

// download fetches the wheel into dir with the first client that can, and
// gives its path. What the user configured for the client (an index, a proxy,
// certificates) holds; the file is checked against its pinned sum afterwards.
func download(ctx context.Context, r Runtime, w wheel, dir string, progress func(string)) (string, error) {
	var failures []error
	tried := false
	for _, client := range clients() {
		program, err := exec.LookPath(client[0])
		if err != nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return "", fault.Output.Wrap("remove "+dir, err)
		}
		tried = true
		path, err := downloadWith(ctx, program, client[1:], r, w, dir)
		if err == nil {
			return path, nil
		}
		if ctx.Err() != nil {
			return "", fault.Cancelled.Wrap("download "+r.Project, ctx.Err())
		}
		failures = append(failures, fmt.Errorf("%s: %w", strings.Join(client, " "), err))
		progress(strings.Join(client, " ") + " could not download it; trying another way")
	}
	byHand := "fetch the wheel " + r.Project + " " + r.Version + " (" + abi + ", " + w.platform +
		") from pypi.org on any machine, then run: lipstream runtime install " + r.Name + " --from FILE"
	if !tried {
		return "", fault.Missing.New("download "+r.Project, "neither pip nor uv is installed", "install pip, or "+byHand)
	}
	return "", fault.Missing.Wrap("download "+r.Project+" "+r.Version, errors.Join(failures...), byHand)
}

func downloadWith(ctx context.Context, program string, args []string, r Runtime, w wheel, dir string) (string, error) {
	args = append(args[:len(args):len(args)],
		"download", "--no-deps", "--only-binary=:all:",
		"--python-version", pythonVersion, "--implementation", "cp", "--abi", abi, "--platform", w.platform,
		"--disable-pip-version-check", "--no-input", "--progress-bar", "off",
		"--dest", dir, r.Project+"=="+r.Version)
	cmd := exec.CommandContext(ctx, program, args...)
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // pip cleans up
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if text := said.last(); text != "" {
			return "", fmt.Errorf("%w: %s", err, text)
		}
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("it downloaded %d wheels", len(found))
	}
	return found[0], nil
}

// tail keeps the end of what a program prints.
type tail struct{ buf []byte }

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

// last gives the last line that says something: where pip tells the reason.
func (t *tail) last() string {
	text := ""
	for line := range bytes.Lines(t.buf) {
		if s := strings.TrimSpace(string(line)); s != "" && !strings.HasPrefix(s, "[notice]") {
			text = s
		}
	}
	return text
}
