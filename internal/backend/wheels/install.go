package wheels

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/lipstream/lipstream/internal/archive"
	"github.com/lipstream/lipstream/internal/fault"
)

// Install makes sure that the named runtime is installed and complete, and returns the
// folder of its library. from is the path of a wheel, or of a folder of wheels, or "";
// what it does not contain is downloaded. Packages of the machine's Python are used
// where they are, if their libraries are of the right version.
func Install(ctx context.Context, name, from string, progress archive.Progress) (dir string, err error) {
	progress.Defaults()
	r, err := Named(name)
	if err == nil && !r.Available() {
		err = fault.Missing.New("install "+name, archive.NoBuild(thisPlatform), installHint(name))
	}
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
	dir, err = r.Packages[0].archive().Dir()
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
	given, err := archive.Given(ctx, from, ".whl")
	if err != nil {
		return nil, err
	}
	for _, p := range r.Packages {
		if given[p.wheel().sha256] != "" {
			return given, nil
		}
	}
	sums := slices.Sorted(maps.Keys(given))
	if len(sums) != 1 {
		return nil, fault.Input.New("install from "+from, "it has no wheel of "+r.Name, byHand(r.Name, r.Packages...))
	}
	return nil, r.Packages[0].archive().WrongSum(given[sums[0]], sums[0])
}

// missing returns the packages of r that have to be installed. A wheel from the user is
// always checked, so its package counts as missing.
func (r Runtime) missing(ctx context.Context, given map[string]string, progress archive.Progress) ([]Package, error) {
	var list []Package
	var size int64
	downloads := 0
	python := sync.OnceValue(func() map[string][]string { return pythonPackages(ctx) })
	for i, p := range r.Packages {
		a := p.archive()
		if given[a.SHA256] != "" {
			list = append(list, p)
			continue
		}
		if a.Installed(ctx) {
			continue
		}
		if i > 0 && !p.fixed && !p.crt {
			if found := p.all(p.inPython(python())); found != nil {
				progress.Say("using " + p.Project + " of Python: " + filepath.Dir(found[0]))
				continue
			}
		}
		list, size = append(list, p), size+a.Size
		downloads++
	}
	if downloads > 1 {
		progress.Say(fmt.Sprintf("%d packages to download, %d MB", downloads, archive.Megabytes(size)))
	}
	return list, ctx.Err()
}

// install installs one package of r.
func (r Runtime) install(ctx context.Context, p Package, given map[string]string, progress archive.Progress) error {
	a := p.archive()
	return a.Install(ctx, progress, func(dir string) (string, error) {
		if path := given[a.SHA256]; path != "" {
			return path, nil
		}
		progress.Say(fmt.Sprintf("downloading %s %s, %d MB", p.Project, p.Version, archive.Megabytes(a.Size)))
		return obtain(ctx, r.Name, p, dir, progress)
	}, func(dir string) error {
		if len(p.needed) > 0 && p.all([]string{dir}) == nil || len(p.needed) == 0 && r.libraryIn(dir) == "" {
			return fault.Internal.New("unpack the wheel of "+p.Project, "it does not contain the library")
		}
		return nil
	})
}
