package wheels

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// manifestName is the file in an installation that lists its files.
const manifestName = "manifest.json"

// manifest lists the files of an installation.
type manifest struct {
	Runtime string            `json:"runtime"`
	Version string            `json:"version"`
	Wheel   string            `json:"wheel_sha256"`
	Files   map[string]string `json:"files_sha256"`
}

// Install makes sure that the named runtime is installed and complete, and returns its
// folder. from is the path of the wheel, or "" to download it; it must be the pinned
// one. Install calls progress, which may be nil, with a line for each step.
func Install(ctx context.Context, name, from string, progress func(string)) (dir string, err error) {
	if progress == nil {
		progress = func(string) {}
	}
	r, err := Named(name)
	if err != nil {
		return "", err
	}
	w, err := r.wheel()
	if err != nil {
		return "", err
	}
	dir, err = Dir(name)
	if err != nil {
		return "", err
	}
	if from != "" { // fail before any progress is reported
		f, _, err := openWheel(from)
		if err != nil {
			return "", err
		}
		_ = f.Close()
	}
	// A wheel from the user is always checked.
	if from == "" && verify(ctx, dir, w.sha256) == nil {
		progress(r.Name + " " + r.Version + " is already installed")
		return dir, nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fault.Output.Wrap("create "+parent, err)
	}
	sweep(parent, "."+r.Name+"-")
	// In the same folder as the destination, so that the last step is one rename.
	work, err := os.MkdirTemp(parent, "."+r.Name+"-*")
	if err != nil {
		return "", fault.Output.Wrap("create a folder in "+parent, err)
	}
	defer func() {
		if e := os.RemoveAll(work); e != nil && err == nil {
			err = fault.Output.Wrap("remove "+work, e)
		}
	}()
	if from == "" {
		size := ""
		if w.size > 0 {
			size = fmt.Sprintf(", %d MB", (w.size+500_000)/1_000_000)
		}
		progress("downloading " + r.Project + " " + r.Version + size)
		if from, err = download(ctx, r, w, filepath.Join(work, "download"), progress); err != nil {
			return "", err
		}
	}
	unpacked := filepath.Join(work, "unpacked")
	progress("checking and unpacking " + filepath.Base(from))
	if err := unpackWheel(ctx, r, w, from, unpacked); err != nil {
		return "", err
	}
	if err := replace(ctx, unpacked, dir, work, w.sha256); err != nil {
		return "", err
	}
	progress("installed in " + dir)
	return dir, nil
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
// is removed.
func replace(ctx context.Context, unpacked, dir, work, sum string) error {
	old := filepath.Join(work, "old")
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Output.Wrap("replace "+dir, err)
	}
	if err := os.Rename(unpacked, dir); err != nil {
		if verify(ctx, dir, sum) == nil {
			return nil // another process has just installed it
		}
		return fault.Output.Wrap("install in "+dir, err)
	}
	return nil
}

// openWheel opens a file that may be a wheel, and returns its size.
func openWheel(path string) (*os.File, int64, error) {
	const hint = "give the path of a wheel file, or leave `from` out to download it"
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fault.Input.Wrap("open the wheel "+path, fault.WithoutPath(err), hint)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, fault.Input.Wrap("open the wheel "+path, fault.WithoutPath(err), hint)
	}
	return f, st.Size(), nil
}

// unpackWheel checks a wheel against its pinned sum and unpacks the file that it has
// checked.
func unpackWheel(ctx context.Context, r Runtime, w wheel, from, to string) (err error) {
	f, size, err := openWheel(from)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := hash(ctx, f)
	if err != nil {
		return fault.Input.Wrap("read the wheel "+from, err)
	}
	if sum != w.sha256 {
		return fault.Input.New("check the wheel "+from, fmt.Sprintf("its SHA-256 is %s, that of %s %s (%s, %s) is %s", sum, r.Project, r.Version, abi, w.platform, w.sha256),
			"download it with: pip download --no-deps --only-binary=:all: --python-version "+pythonVersion+
				" --platform "+w.platform+" "+r.Project+"=="+r.Version)
	}
	files, err := unpack(ctx, f, size, r.keep, to)
	if err != nil {
		return fault.Input.Wrap("unpack the wheel "+from, err)
	}
	if r.libraryIn(to) == "" {
		return fault.Internal.New("unpack the wheel "+from, "it does not contain the library")
	}
	text, err := json.MarshalIndent(manifest{r.Name, r.Version, w.sha256, files}, "", "  ")
	if err != nil {
		return fault.Internal.Wrap("write the manifest in "+to, err)
	}
	err = os.WriteFile(filepath.Join(to, manifestName), text, 0o644)
	return fault.Output.Wrap("write the manifest in "+to, err)
}

// verify checks every file of an installation against its manifest.
func verify(ctx context.Context, dir, wheelSum string) error {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if m.Wheel != wheelSum || len(m.Files) == 0 {
		return errors.New("it is from another wheel")
	}
	for name, want := range m.Files {
		sum, err := hashFile(ctx, filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if sum != want {
			return fmt.Errorf("%s is damaged", name)
		}
	}
	return nil
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hash(ctx, f)
}

// hash returns the SHA-256 of the content of r, in hexadecimal.
func hash(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, disk.Reader(ctx, r)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
