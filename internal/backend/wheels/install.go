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

	"github.com/lipstream/lipstream/internal/fault"
)

// manifestName is the file in an installation that lists its files.
const manifestName = "manifest.json"

// manifest is what an installation holds.
type manifest struct {
	Runtime string            `json:"runtime"`
	Version string            `json:"version"`
	Wheel   string            `json:"wheel_sha256"`
	Files   map[string]string `json:"files_sha256"`
}

// Install makes sure that the runtime called name is installed and whole, and
// gives its folder. The wheel is from if that is not "", and is downloaded
// otherwise; either way it must be the pinned one. progress, which may be nil,
// is told what happens.
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
	if from != "" { // before anything is said to happen
		if err := checkFile(from); err != nil {
			return "", err
		}
	}
	// A wheel that the user hands over is looked at in any case.
	if from == "" && verify(ctx, dir, w.sha256) == nil {
		progress(r.Name + " " + r.Version + " is installed already")
		return dir, nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fault.Output.Wrap("create "+parent, err)
	}
	sweep(parent, "."+r.Name+"-")
	// Beside its destination, so that the last step is one rename.
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

// sweep removes what installations left that were killed. One that is under
// way is not that old.
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), prefix) && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(filepath.Join(parent, e.Name())) // if it cannot, it just stays
		}
	}
}

// replace moves the new installation to dir. What was there goes away with the
// work folder: a damaged one, or one just made by another process.
func replace(ctx context.Context, unpacked, dir, work, sum string) error {
	old := filepath.Join(work, "old")
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Output.Wrap("replace "+dir, err)
	}
	if err := os.Rename(unpacked, dir); err != nil {
		if verify(ctx, dir, sum) == nil {
			return nil // another process was faster
		}
		return fault.Output.Wrap("install in "+dir, err)
	}
	return nil
}

// fileHint is for a --from that names no wheel.
const fileHint = "give the path of a wheel file, or leave --from out to download it"

// checkFile refuses what cannot be a wheel.
func checkFile(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return fault.Input.Wrap("open wheel "+path, fault.WithoutPath(err), fileHint)
	case !st.Mode().IsRegular():
		return fault.Input.New("open wheel "+path, "not a regular file", fileHint)
	}
	return nil
}

// unpackWheel checks a wheel against its pinned sum and unpacks from the very
// bytes that were checked.
func unpackWheel(ctx context.Context, r Runtime, w wheel, from, to string) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return fault.Input.Wrap("open wheel "+from, fault.WithoutPath(err), fileHint)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fault.Input.Wrap("open wheel "+from, err)
	}
	if !st.Mode().IsRegular() {
		return fault.Input.New("open wheel "+from, "not a regular file")
	}
	sum, err := hash(ctx, f)
	if err != nil {
		return fault.Input.Wrap("read wheel "+from, err)
	}
	if sum != w.sha256 {
		return fault.Input.New("check wheel "+from, fmt.Sprintf("its SHA-256 is %s, that of %s %s (%s, %s) is %s", sum, r.Project, r.Version, abi, w.platform, w.sha256),
			"fetch it with: pip download --no-deps --only-binary=:all: --python-version "+pythonVersion+
				" --platform "+w.platform+" "+r.Project+"=="+r.Version)
	}
	files, err := unpack(ctx, f, st.Size(), r.keep, to)
	if err != nil {
		return fault.Input.Wrap("unpack wheel "+from, err)
	}
	if r.libraryIn(to) == "" {
		return fault.Internal.New("unpack wheel "+from, "the library is not in it")
	}
	text, err := json.MarshalIndent(manifest{r.Name, r.Version, w.sha256, files}, "", "  ")
	if err != nil {
		return fault.Internal.Wrap("write manifest "+to, err)
	}
	err = os.WriteFile(filepath.Join(to, manifestName), text, 0o644)
	return fault.Output.Wrap("write manifest "+to, err)
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
		return errors.New("it is of another wheel")
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

// hash gives the SHA-256 of what r holds, in hexadecimal.
func hash(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, r}); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
