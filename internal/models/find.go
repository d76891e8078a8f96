package models

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Dir returns the folder in which checkpoints are looked for: LIPSTREAM_MODELS_DIR,
// or lipstream/models in the user's cache folder.
func Dir() (string, error) { return disk.UserDir("LIPSTREAM_MODELS_DIR", "models") }

// places lists the possible paths of the files in a folder, in the order of the search.
// These are the layouts of the original's checkpoints folder and of ComfyUI's wrapper.
var places = map[Kind][]string{
	UNet:    {"latentsync_unet.pt", "latentsync_unet.safetensors"},
	Whisper: {"whisper/tiny.pt", "tiny.pt"},
	VAE: {
		"vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin",
		"vae/sd-vae-ft-mse.safetensors",
		"stabilityai/sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "stabilityai/sd-vae-ft-mse/diffusion_pytorch_model.bin",
		"sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "sd-vae-ft-mse/diffusion_pytorch_model.bin",
	},
}

// versionFolders are the folders in the models folder into which Pull puts the UNets.
// Files that the versions share are in the models folder itself.
var versionFolders = []string{"latentsync-1.6", "latentsync-1.5"}

// Set is a complete set of checkpoints.
type Set struct {
	UNet, Whisper, VAE string  // paths
	Version            Version // as far as it is known without reading the UNet; see Identify
}

// Find returns the checkpoints in a models folder: those of the folder itself, else of
// its latentsync-1.6, else of its latentsync-1.5. Whisper and the VAE may also be in the
// folder above these.
//
// If some are missing, the error is of kind Missing and lists them.
func Find(dir string) (Set, error) {
	s, missing := find(dir)
	if len(missing) == 0 {
		return s, nil
	}
	var names, pull []string
	for _, k := range missing {
		name := map[Kind]string{UNet: "the UNet", Whisper: "Whisper", VAE: "the VAE"}[k]
		names = append(names, name+" ("+places[k][0]+")")
		pull = append(pull, "lipstream models pull "+string(k))
	}
	if missing[0] == UNet {
		pull = []string{"lipstream models pull " + version16} // with the others
	}
	return s, fault.Missing.New("find the checkpoints of LatentSync in "+dir, "missing: "+strings.Join(names, ", "), "run: "+strings.Join(pull, " && "))
}

// Installed reports whether Find finds a complete set.
func Installed(dir string) bool {
	_, missing := find(dir)
	return len(missing) == 0
}

func find(dir string) (s Set, missing []Kind) {
	s.UNet = first(UNet, withVersions(dir)...)
	var shared []string
	if s.UNet != "" {
		shared = append(shared, filepath.Dir(s.UNet))
		if st, err := os.Stat(s.UNet); err == nil {
			s.Version, _ = quickVersion(s.UNet, st)
		}
	}
	shared = append(shared, dir)
	if slices.Contains(versionFolders, filepath.Base(dir)) {
		shared = append(shared, filepath.Dir(dir))
	}
	s.Whisper, s.VAE = first(Whisper, shared...), first(VAE, shared...)
	for _, f := range []Row{{Kind: UNet, Path: s.UNet}, {Kind: Whisper, Path: s.Whisper}, {Kind: VAE, Path: s.VAE}} {
		if f.Path == "" {
			missing = append(missing, f.Kind)
		}
	}
	return s, missing
}

// withVersions returns dir and the folders of the versions in it.
func withVersions(dir string) []string {
	dirs := []string{dir}
	for _, v := range versionFolders {
		dirs = append(dirs, filepath.Join(dir, v))
	}
	return dirs
}

// first returns the first file of a kind in the folders, or "".
func first(kind Kind, dirs ...string) string {
	for _, dir := range dirs {
		for _, p := range places[kind] {
			path := filepath.Join(dir, filepath.FromSlash(p))
			if st, err := os.Stat(path); err == nil && !st.IsDir() {
				return path
			}
		}
	}
	return ""
}

// Row describes a checkpoint of a models folder, or one that is missing.
type Row struct {
	Kind     Kind              `json:"kind"`
	Path     string            `json:"path,omitempty"` // "" when missing
	Size     int64             `json:"size,omitempty"` // in bytes
	Version  *Version          `json:"version,omitempty"`
	Prepared map[string]string `json:"prepared,omitempty"` // converted files by their type: "f16", "bf16"
	Hint     string            `json:"hint,omitempty"`     // how to get what is missing
}

// List returns all checkpoints in a models folder, with all versions of the UNet, and
// those that are missing of a complete set. It reads no weights: a UNet whose version is
// not known yet has the zero Version.
func List(ctx context.Context, dir string) []Row {
	var rows []Row
	for _, d := range withVersions(dir) {
		if path := first(UNet, d); path != "" {
			rows = append(rows, row(ctx, UNet, path))
		}
	}
	if len(rows) == 0 {
		rows = append(rows, Row{Kind: UNet, Hint: "run: lipstream models pull " + version16})
	}
	set, _ := find(dir)
	return append(rows, row(ctx, Whisper, set.Whisper), row(ctx, VAE, set.VAE))
}

// row describes a checkpoint; path is "" if it is missing.
func row(ctx context.Context, kind Kind, path string) Row {
	if path == "" {
		return Row{Kind: kind, Hint: "run: lipstream models pull " + string(kind)}
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	r := Row{Kind: kind, Path: path, Prepared: map[string]string{}}
	if st, err := os.Stat(path); err == nil {
		r.Size = st.Size()
		if kind == UNet {
			v, _ := quickVersion(path, st)
			r.Version = &v
		}
	}
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16} {
		if file, ok := Prepared(ctx, path, d); ok {
			r.Prepared[d.String()] = file
		}
	}
	return r
}
