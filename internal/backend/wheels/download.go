package wheels

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/child"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// clients are the programs that can download a wheel for another Python than their own,
// in the order in which they are tried. uv cannot download, but can run pip.
func clients() [][]string {
	list := [][]string{
		{"python3", "-m", "pip"},
		{"pip3"},
		{"pip"},
		{"python", "-m", "pip"},
		{"py", "-m", "pip"}, // Windows
		{"uv", "tool", "run", "pip"},
	}
	if given := os.Getenv(PythonVariable); given != "" {
		list = slices.Insert(list, 0, []string{given, "-m", "pip"})
	}
	return list
}

// obtain downloads the wheel into dir, and returns its path: directly, or with the first
// client that can, because the user's configuration of the client (an index, a proxy,
// certificates) may be necessary. The caller must check the file against its pinned sum.
func obtain(ctx context.Context, runtime string, p Package, dir string, progress archive.Progress) (string, error) {
	a := p.archive()
	at, name, err := locate(ctx, a)
	if err == nil {
		var path string
		if path, err = a.Fetch(ctx, at, name, dir, progress); err == nil {
			return path, nil
		}
	}
	if ctx.Err() != nil {
		return "", fault.Cancelled.Wrap("download "+p.Project, ctx.Err())
	}
	failures := []error{err}
	tried := false
	for _, client := range clients() {
		program, err := exec.LookPath(client[0])
		if err != nil {
			continue
		}
		if err := disk.RemoveAll(dir); err != nil {
			return "", fault.Output.Wrap("remove "+dir, err)
		}
		tried = true
		path, err := downloadWith(ctx, program, client[1:], p, dir)
		if err == nil {
			return path, nil
		}
		if ctx.Err() != nil {
			return "", fault.Cancelled.Wrap("download "+p.Project, ctx.Err())
		}
		failures = append(failures, fmt.Errorf("%s: %w", strings.Join(client, " "), err))
		progress.Say(strings.Join(client, " ") + " could not download it; trying another way")
	}
	if !tried {
		return "", fault.Missing.Wrap("download "+p.Project, err, "check the connection, install pip if a proxy or another index is necessary, or "+byHand(runtime, p))
	}
	return "", fault.Missing.Wrap("download "+p.Project+" "+p.Version, errors.Join(failures...), byHand(runtime, p))
}

// byHand says how to install packages of a runtime without a connection.
func byHand(runtime string, packages ...Package) string {
	var names []string
	for _, p := range packages {
		names = append(names, p.Project+" "+p.Version+" ("+abi+", "+p.wheel().platform+")")
	}
	return "fetch the wheel " + strings.Join(names, ", ") + " from pypi.org on any machine, then run: lipstream runtime install " + runtime + " --from FILE"
}

func downloadWith(ctx context.Context, program string, args []string, p Package, dir string) (string, error) {
	args = append(args[:len(args):len(args)],
		"download", "--no-deps", "--only-binary=:all:",
		"--python-version", pythonVersion, "--implementation", "cp", "--abi", abi, "--platform", p.wheel().platform,
		"--disable-pip-version-check", "--no-input", "--progress-bar", "off",
		"--dest", dir, p.Project+"=="+p.Version)
	pip, err := child.Start(ctx, exec.Command(program, args...), 5*time.Second) // pip cleans up
	if err != nil {
		return "", err
	}
	if err := pip.Wait(); err != nil {
		return "", reason(err)
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

// reason returns the error of a client with the last line that it printed, except for
// notices.
func reason(err error) error {
	exit, ok := errors.AsType[*child.ExitError](err)
	if !ok {
		return err
	}
	exit.Stderr = slices.DeleteFunc(exit.Stderr, func(line string) bool { return strings.HasPrefix(line, "[notice]") })
	return exit
}
