package models

import (
	"cmp"
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

// versionFolders are the folders in the models folder into which Pull puts LatentSync's
// UNets. Files that the versions share are in the models folder itself.
var versionFolders = []string{"latentsync-1.6", "latentsync-1.5"}

// museTalkFolders are the folders of MuseTalk's UNets in the models folder.
var museTalkFolders = []string{"musetalkV15", "musetalk"}

// Set is a complete set of checkpoints of an engine. All fields but Version are paths.
type Set struct {
	UNet, Whisper, VAE string
	// TAESD's halves, which are optional: "" if there is none. They can be in one file.
	TAESDEncoder, TAESDDecoder string
	// Version is that of the UNet, as far as it is known without reading the file; for
	// LatentSync see Identify.
	Version Version
}

// File is a checkpoint of a set.
type File struct {
	Kind Kind
	Path string
}

// files lists the checkpoints of the set that exist, without repetition.
func (s Set) files(e Engine) []File {
	all := []File{{engines[e].unet, s.UNet}, {Whisper, s.Whisper}, {VAE, s.VAE}, {TAESD, s.TAESDDecoder}, {TAESD, s.TAESDEncoder}}
	return slices.Compact(slices.DeleteFunc(all, func(f File) bool { return f.Path == "" }))
}

// Find returns the checkpoints of an engine in a models folder. The UNet of LatentSync is
// that of the folder itself, else of its latentsync-1.6, else of its latentsync-1.5; that
// of MuseTalk is version 1.5, else 1.0. Whisper and the VAE are beside the UNet, in the
// folder, in one of those of the versions, or in the folder above them.
//
// If some are missing, the error is of kind Missing and lists them.
func Find(dir string, e Engine) (Set, error) {
	s, missing := find(dir, e)
	if len(missing) == 0 {
		return s, nil
	}
	var names, pull []string
	for _, k := range missing {
		names = append(names, kinds[k].name+" ("+kinds[k].places[0]+")")
		pull = append(pull, "lipstream models pull "+string(k))
	}
	if missing[0] == engines[e].unet {
		pull = []string{e.Pull()} // with the others
	}
	return s, fault.Missing.New("find the checkpoints of "+e.String()+" in "+dir, "missing: "+strings.Join(names, ", "), "run: "+strings.Join(pull, " && "))
}

// Installed reports whether Find finds a complete set.
func Installed(dir string, e Engine) bool {
	_, missing := find(dir, e)
	return len(missing) == 0
}

// FindAll returns the checkpoints of all engines whose UNet is in a models folder, without
// repetition. If some are missing, or there is no UNet, the error is that of Find for the
// first such engine.
func FindAll(dir string) (files []File, err error) {
	for _, e := range Engines() {
		s, missing := find(dir, e)
		if s.UNet == "" {
			continue
		}
		for _, f := range s.files(e) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
		if len(missing) > 0 {
			_, missingErr := Find(dir, e)
			err = cmp.Or(err, missingErr)
		}
	}
	if len(files) == 0 {
		s, err := Find(dir, LatentSync)
		return s.files(LatentSync), err
	}
	return files, err
}

func find(dir string, e Engine) (s Set, missing []Kind) {
	unet := engines[e].unet
	s.UNet = first(kinds[unet].places, withVersions(dir)...)
	var shared []string
	if s.UNet != "" {
		shared = append(shared, filepath.Dir(s.UNet))
		if st, err := os.Stat(s.UNet); err == nil {
			s.Version, _ = quickVersion(unet, s.UNet, st)
		}
	}
	shared = append(shared, withVersions(dir)...)
	if base := filepath.Base(dir); slices.Contains(versionFolders, base) || slices.Contains(museTalkFolders, base) {
		shared = append(shared, filepath.Dir(dir))
	}
	s.Whisper, s.VAE = first(kinds[Whisper].places, shared...), first(kinds[VAE].places, shared...)
	s.TAESDDecoder, s.TAESDEncoder = first(taesdPlaces("decoder"), shared...), first(taesdPlaces("encoder"), shared...)
	for _, f := range []File{{unet, s.UNet}, {Whisper, s.Whisper}, {VAE, s.VAE}} {
		if f.Path == "" {
			missing = append(missing, f.Kind)
		}
	}
	return s, missing
}

// withVersions returns dir and the folders of LatentSync's versions in it.
func withVersions(dir string) []string {
	dirs := []string{dir}
	for _, v := range versionFolders {
		dirs = append(dirs, filepath.Join(dir, v))
	}
	return dirs
}

// first returns the first file that exists at one of the places in the folders, or "".
func first(places []string, dirs ...string) string {
	for _, dir := range dirs {
		for _, p := range places {
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

// List returns all checkpoints in a models folder, with all versions of the UNets, and
// those that are missing. It reads no weights: a UNet whose version is not known yet has
// the zero Version.
func List(ctx context.Context, dir string) []Row {
	var rows []Row
	add := func(kind Kind, paths ...string) {
		paths = slices.DeleteFunc(slices.Compact(paths), func(p string) bool { return p == "" })
		for _, path := range paths {
			rows = append(rows, row(ctx, kind, path))
		}
		if len(paths) == 0 {
			pull := string(kind)
			if kind == UNet {
				pull = version16
			}
			rows = append(rows, Row{Kind: kind, Hint: "run: lipstream models pull " + pull})
		}
	}
	var latentSync, museTalk []string
	for _, d := range withVersions(dir) {
		latentSync = append(latentSync, first(kinds[UNet].places, d))
	}
	for _, place := range kinds[MuseTalkUNet].places {
		museTalk = append(museTalk, first([]string{place}, dir))
	}
	set, _ := find(dir, LatentSync)
	add(UNet, latentSync...)
	add(MuseTalkUNet, museTalk...)
	add(Whisper, set.Whisper)
	add(VAE, set.VAE)
	add(TAESD, set.TAESDDecoder, set.TAESDEncoder)
	return rows
}

// row describes a checkpoint.
func row(ctx context.Context, kind Kind, path string) Row {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	r := Row{Kind: kind, Path: path, Prepared: map[string]string{}}
	if st, err := os.Stat(path); err == nil {
		r.Size = st.Size()
		if kind.isUNet() {
			v, _ := quickVersion(kind, path, st)
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
