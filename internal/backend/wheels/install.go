package wheels

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// manifestName is the file in an installation that lists its files.
const manifestName = "manifest.json"

// manifest lists the files of an installation.
type manifest struct {
	Project string            `json:"project"`
	Version string            `json:"version"`
	Wheel   string            `json:"wheel_sha256"`
	Files   map[string]string `json:"files_sha256"`
}

// Install makes sure that the named runtime is installed and complete, and returns the
// folder of its library. from is the path of a wheel, or of a folder of wheels, or "";
// what it does not contain is downloaded. Packages of the machine's Python are used
// where they are, if their libraries are of the right version.
func Install(ctx context.Context, name, from string, progress Progress) (dir string, err error) {
	progress.defaults()
	r, err := Named(name)
	if err != nil {
		return "", err
	}
	given, err := r.given(ctx, from)
	if err != nil {
		return "", err
	}
	list, err := r.missing(ctx, given, progress)
	if err != nil {
		return "", err
	}
	for _, p := range list {
		if err := r.install(ctx, p, given, progress); err != nil {
			return "", err
		}
	}
	dir, err = r.Packages[0].dir()
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		progress.Say(r.Name + " " + r.Version() + " is already installed")
	} else {
		progress.Say("installed in " + dir)
	}
	return dir, nil
}

// given returns the paths of the wheels in from, a file or a folder, by their SHA-256.
// One of them must be of r.
func (r Runtime) given(ctx context.Context, from string) (map[string]string, error) {
	if from == "" {
		return nil, nil
	}
	paths := []string{from}
	if entries, err := os.ReadDir(from); err == nil {
		paths = nil
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".whl") {
				paths = append(paths, filepath.Join(from, e.Name()))
			}
		}
	}
	given := map[string]string{}
	for _, path := range paths {
		f, _, err := openWheel(path)
		if err != nil {
			return nil, err
		}
		sum, err := hash(ctx, f)
		_ = f.Close()
		if err != nil {
			return nil, fault.Input.Wrap("read the wheel "+path, err)
		}
		given[sum] = path
	}
	for _, p := range r.Packages {
		if w, err := p.wheel(); err != nil || given[w.sha256] != "" {
			return given, err
		}
	}
	sums := slices.Sorted(maps.Keys(given))
	if len(sums) != 1 {
		return nil, fault.Input.New("install from "+from, "it has no wheel of "+r.Name, byHand(r.Name, r.Packages...))
	}
	return nil, r.Packages[0].wrongSum(from, sums[0])
}

// missing returns the packages of r that have to be installed. A wheel from the user is
// always checked, so its package counts as missing.
func (r Runtime) missing(ctx context.Context, given map[string]string, progress Progress) ([]Package, error) {
	var list []Package
	var size int64
	downloads := 0
	python := sync.OnceValue(func() map[string][]string { return pythonPackages(ctx) })
	for i, p := range r.Packages {
		w, err := p.wheel()
		if err != nil {
			return nil, err
		}
		dir, err := p.dir()
		if err != nil {
			return nil, err
		}
		if given[w.sha256] != "" {
			list = append(list, p)
			continue
		}
		if verify(ctx, dir, w.sha256) == nil {
			continue
		}
		if i > 0 {
			if found := p.all(p.inPython(python())); found != nil {
				progress.Say("using " + p.Project + " of Python: " + filepath.Dir(found[0]))
				continue
			}
		}
		list, size = append(list, p), size+w.size
		downloads++
	}
	if downloads > 1 {
		progress.Say(fmt.Sprintf("%d packages to download, %d MB", downloads, megabytes(size)))
	}
	return list, ctx.Err()
}

func megabytes(n int64) int64 { return (n + 500_000) / 1_000_000 }

// install installs one package of r.
func (r Runtime) install(ctx context.Context, p Package, given map[string]string, progress Progress) (err error) {
	w, err := p.wheel()
	if err != nil {
		return err
	}
	dir, err := p.dir()
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fault.Output.Wrap("create "+parent, err)
	}
	sweep(parent, "."+p.Project+"-")
	// In the same folder as the destination, so that the last step is one rename.
	work, err := os.MkdirTemp(parent, "."+p.Project+"-*")
	if err != nil {
		return fault.Output.Wrap("create a folder in "+parent, err)
	}
	defer func() {
		if e := os.RemoveAll(work); e != nil && err == nil {
			err = fault.Output.Wrap("remove "+work, e)
		}
	}()
	from := given[w.sha256]
	if from == "" {
		progress.Say(fmt.Sprintf("downloading %s %s, %d MB", p.Project, p.Version, megabytes(w.size)))
		if from, err = obtain(ctx, r.Name, p, w, filepath.Join(work, "download"), progress); err != nil {
			return err
		}
	}
	unpacked := filepath.Join(work, "unpacked")
	progress.Say("checking and unpacking " + filepath.Base(from))
	if err := r.unpack(ctx, p, w, from, unpacked); err != nil {
		return err
	}
	return replace(ctx, unpacked, dir, work, w.sha256)
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

// unpack checks the wheel of a package against its pinned sum and unpacks the file that
// it has checked.
func (r Runtime) unpack(ctx context.Context, p Package, w wheel, from, to string) (err error) {
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
		return p.wrongSum(from, sum)
	}
	files, err := unpack(ctx, f, size, p.keep, to)
	if err != nil {
		return fault.Input.Wrap("unpack the wheel "+from, err)
	}
	if len(p.needed) > 0 && p.all([]string{to}) == nil || len(p.needed) == 0 && r.libraryIn(to) == "" {
		return fault.Internal.New("unpack the wheel "+from, "it does not contain the library")
	}
	text, err := json.MarshalIndent(manifest{p.Project, p.Version, w.sha256, files}, "", "  ")
	if err != nil {
		return fault.Internal.Wrap("write the manifest in "+to, err)
	}
	err = os.WriteFile(filepath.Join(to, manifestName), text, 0o644)
	return fault.Output.Wrap("write the manifest in "+to, err)
}

// wrongSum returns the error for a file with another sum than the pinned one.
func (p Package) wrongSum(path, sum string) error {
	w, err := p.wheel()
	if err != nil {
		return err
	}
	return fault.Input.New("check the wheel "+path, fmt.Sprintf("its SHA-256 is %s, that of %s %s (%s, %s) is %s", sum, p.Project, p.Version, abi, w.platform, w.sha256),
		"download it with: pip download --no-deps --only-binary=:all: --python-version "+pythonVersion+
			" --platform "+w.platform+" "+p.Project+"=="+p.Version)
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
