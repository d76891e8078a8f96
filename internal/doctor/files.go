package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lipstream/lipstream/internal/memory"
)

// LatentSyncCheckpoint is what the latentsync engine, which this version cannot
// run yet, will need in the models folder.
func LatentSyncCheckpoint() []File {
	// No command to fetch it: that would be 5 GB of no use yet.
	const fix = "nothing to do: use --engine preview"
	return []File{
		{Path: "latentsync_unet.pt", MinSize: 1 << 30, Fix: fix},
		{Path: "whisper/tiny.pt", MinSize: 32 << 20, Fix: fix},
		{
			Path: "sd-vae-ft-mse", MinSize: 64 << 20,
			Any: []string{"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"},
			Fix: fix,
		},
	}
}

// checkFile looks for a part of a checkpoint. That it is missing keeps only
// one engine from working, and the detail says so.
func checkFile(dir string, f File) Check {
	name := f.Path
	candidates := []string{f.Path}
	if len(f.Any) > 0 {
		candidates = candidates[:0]
		for _, name := range f.Any {
			candidates = append(candidates, f.Path+"/"+name)
		}
	}
	for _, rel := range candidates {
		full := dirOf(dir, rel)
		info, err := os.Stat(full) // follows links: checkpoints are often linked
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return failed(name, Warning, err, "make the file readable")
		case !info.Mode().IsRegular():
			return Check{name, Warning, full + " is not a file", f.Fix}
		case info.Size() < f.MinSize:
			return Check{name, Warning, fmt.Sprintf("%s has only %s: the download broke off, or git-lfs left a pointer; no engine of this version needs it",
				full, memory.Size(info.Size())), f.Fix}
		}
		return Check{Name: name, Status: OK, Detail: memory.Size(info.Size()) + ", " + full + "; this version does not use it yet"}
	}
	return Check{name, Missing, "not in " + dir + "; only the latentsync engine will need it, which this version does not have yet", f.Fix}
}

// checkSpace checks the disk that a folder is on. A folder that is not there
// yet will be made, so its nearest parent that exists counts.
func checkSpace(d Dir, free func(string) (int64, error)) Check {
	name := "disk " + d.Name
	at, err := existing(d.Path)
	if err != nil {
		return failed(name, Warning, err, "make "+d.Path+" readable")
	}
	n, err := free(at)
	if err != nil {
		return failed(name, Warning, err, "make "+d.Path+" readable")
	}
	detail := memory.Size(n) + " free, " + d.Path
	if n < lowSpace {
		return Check{name, Warning, detail, "free some space: long videos need 2 GiB and more"}
	}
	return Check{Name: name, Status: OK, Detail: detail}
}

// existing is path, or the nearest folder above it that exists.
func existing(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return "", err
		}
		path = parent
	}
}
