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

// clients are the programs that can download a wheel for another Python than their own,
// in the order in which they are tried. uv cannot download, but can run pip.
func clients() [][]string {
	return [][]string{
		{"python3", "-m", "pip"},
		{"pip3"},
		{"pip"},
		{"python", "-m", "pip"},
		{"uv", "tool", "run", "pip"},
	}
}

// download downloads the wheel into dir with the first client that can, and returns its
// path. The user's configuration of the client (an index, a proxy, certificates)
// applies. The caller must check the file against its pinned sum.
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

// tail keeps the end of the output of a program.
type tail struct{ buf []byte }

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

// last returns the last line with content, in which pip reports the reason.
func (t *tail) last() string {
	text := ""
	for line := range bytes.Lines(t.buf) {
		if s := strings.TrimSpace(string(line)); s != "" && !strings.HasPrefix(s, "[notice]") {
			text = s
		}
	}
	return text
}
