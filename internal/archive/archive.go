// Package archive downloads, checks and installs archives of public package registries:
// zip files such as Python's wheels and Java's jars, each pinned by its SHA-256.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// Archive is one exact zip file, and what is installed of it.
type Archive struct {
	Project string
	Version string
	SHA256  string // in hexadecimal
	Size    int64  // in bytes
	// Keep lists patterns of path.Match for the names of the files to unpack.
	Keep []string
	Mode fs.FileMode // of the unpacked files; 0 means 0o644
	// Hint says how to get the right file when the user has given another one.
	Hint string
}

// Folder returns the name of the folder of the installation.
func (a Archive) Folder() string { return a.Project + "-" + a.Version }

// Dir returns the folder of the installation.
func (a Archive) Dir() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, a.Folder()), nil
}

// Root returns the folder of all installations.
func Root() (string, error) { return disk.UserDir("", "runtimes") }

// Progress receives what an installation does.
type Progress struct {
	Say   func(line string)                    // a line for each step
	Bytes func(name string, done, total int64) // while a file is downloaded
}

// Defaults replaces functions that are nil.
func (p *Progress) Defaults() {
	if p.Say == nil {
		p.Say = func(string) {}
	}
	if p.Bytes == nil {
		p.Bytes = func(string, int64, int64) {}
	}
}

// manifestName is the file in an installation that lists its files.
const manifestName = "manifest.json"

// manifest lists the files of an installation.
type manifest struct {
	Project string            `json:"project"`
	Version string            `json:"version"`
	Archive string            `json:"wheel_sha256"` // an older name, so that old installations stay valid
	Files   map[string]string `json:"files_sha256"`
}

// Install replaces the installation of a. obtain returns the path of the archive, for
// example after a download into dir, which does not exist yet and is removed afterwards.
// finish checks the folder of the unpacked files.
func (a Archive) Install(ctx context.Context, progress Progress, obtain func(dir string) (path string, err error), finish func(dir string) error) (err error) {
	dir, err := a.Dir()
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fault.Output.Wrap("create "+parent, err)
	}
	sweep(parent, "."+a.Project+"-")
	// In the same folder as the destination, so that the last step is one rename.
	work, err := os.MkdirTemp(parent, "."+a.Project+"-*")
	if err != nil {
		return fault.Output.Wrap("create a folder in "+parent, err)
	}
	defer func() {
		if e := disk.RemoveAll(work); e != nil && err == nil {
			err = fault.Output.Wrap("remove "+work, e)
		}
	}()
	from, err := obtain(filepath.Join(work, "download"))
	if err != nil {
		return err
	}
	unpacked := filepath.Join(work, "unpacked")
	progress.Say("checking and unpacking " + filepath.Base(from))
	if err := a.open(ctx, from, unpacked); err != nil {
		return err
	}
	if err := finish(unpacked); err != nil {
		return err
	}
	return a.replace(ctx, unpacked, dir, work)
}

// sweep removes what killed installations have left. Running installations are not that
// old.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), prefix) && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(filepath.Join(parent, e.Name())) // if that fails, it stays
		}
	}
}

// replace moves the new installation to dir, and an old one into the work folder, which
// is removed. If that fails, the old one stays at dir.
func (a Archive) replace(ctx context.Context, unpacked, dir, work string) error {
	old := filepath.Join(work, "old")
	moved := disk.Rename(dir, old)
	if moved != nil && !errors.Is(moved, os.ErrNotExist) {
		return fault.Output.Wrap("replace "+dir, moved, "end other Lipstream processes that use it, such as a server")
	}
	if err := disk.Rename(unpacked, dir); err != nil {
		if a.Installed(ctx) {
			return nil // another process has just installed it
		}
		if moved == nil {
			err = errors.Join(err, disk.Rename(old, dir))
		}
		return fault.Output.Wrap("install in "+dir, err)
	}
	return nil
}

// open checks the archive at from against its pinned sum, unpacks the file that it has
// checked into the new folder to, and writes the manifest.
func (a Archive) open(ctx context.Context, from, to string) error {
	f, size, err := openFile(from)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := hash(ctx, f)
	if err != nil {
		return fault.Input.Wrap("read "+from, err)
	}
	if sum != a.SHA256 {
		return a.WrongSum(from, sum)
	}
	files, err := a.unpack(ctx, f, size, to)
	if err != nil {
		return fault.Input.Wrap("unpack "+from, err)
	}
	text, err := json.MarshalIndent(manifest{a.Project, a.Version, a.SHA256, files}, "", "  ")
	if err != nil {
		return fault.Internal.Wrap("write the manifest in "+to, err)
	}
	err = os.WriteFile(filepath.Join(to, manifestName), text, 0o644)
	return fault.Output.Wrap("write the manifest in "+to, err)
}

// WrongSum returns the error for a file with another sum than the pinned one.
func (a Archive) WrongSum(path, sum string) error {
	return fault.Input.New("check "+path, fmt.Sprintf("its SHA-256 is %s, but that of %s %s is %s", sum, a.Project, a.Version, a.SHA256), a.Hint)
}

// Installed reports whether a is installed and every file is as it was unpacked.
func (a Archive) Installed(ctx context.Context) bool {
	dir, err := a.Dir()
	if err != nil {
		return false
	}
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return false
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil || m.Archive != a.SHA256 || len(m.Files) == 0 {
		return false
	}
	for name, want := range m.Files {
		if sum, err := hashFile(ctx, filepath.Join(dir, filepath.FromSlash(name))); err != nil || sum != want {
			return false
		}
	}
	return true
}

// Given returns the paths of the archives in from by their SHA-256. from is a file, or a
// folder of files with the extension.
func Given(ctx context.Context, from, extension string) (map[string]string, error) {
	paths := []string{from}
	if entries, err := os.ReadDir(from); err == nil {
		paths = nil
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), extension) {
				paths = append(paths, filepath.Join(from, e.Name()))
			}
		}
	}
	given := map[string]string{}
	for _, path := range paths {
		sum, err := hashFile(ctx, path)
		if err != nil {
			return nil, err
		}
		given[sum] = path
	}
	return given, nil
}

// openFile opens a file that may be an archive, and returns its size.
func openFile(path string) (*os.File, int64, error) {
	const hint = "give the path of a package's file, or leave `from` out to download it"
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fault.Input.Wrap("open "+path, fault.WithoutPath(err), hint)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, fault.Input.Wrap("open "+path, fault.WithoutPath(err), hint)
	}
	return f, st.Size(), nil
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, _, err := openFile(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := hash(ctx, f)
	return sum, fault.Input.Wrap("read "+path, err)
}

// hash returns the SHA-256 of the content of r, in hexadecimal.
func hash(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, disk.Reader(ctx, r)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Platform is this machine's, such as "linux/amd64".
const Platform = runtime.GOOS + "/" + runtime.GOARCH

// NoBuild says that something cannot be installed on a platform.
func NoBuild(platform string) string { return "there is no build of it for " + platform }

// Megabytes returns a size in bytes as millions, rounded.
func Megabytes(n int64) int64 { return (n + 500_000) / 1_000_000 }
