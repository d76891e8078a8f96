package models

import (
	"cmp"
	"context"
	"io/fs"
	"iter"
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

// files lists the checkpoints of the set that exist, without duplicates.
func (s Set) files(e Engine) []File {
	all := []File{{engines[e].unet, s.UNet}, {Whisper, s.Whisper}, {VAE, s.VAE}, {TAESD, s.TAESDDecoder}, {TAESD, s.TAESDEncoder}}
	return slices.Compact(slices.DeleteFunc(all, func(f File) bool { return f.Path == "" }))
}

// Find returns the checkpoints of an engine in a models folder, in ComfyUI's folder or in a
// cache of Hugging Face. In the folder of Dir, Find continues with other places; see
// PathVariable. The UNet of LatentSync is that of the folder itself, else of its
// latentsync-1.6, else of its latentsync-1.5; that of MuseTalk is version 1.5, else 1.0.
// Whisper and the VAE are beside the UNet, else in the first place that has them.
//
// If some are missing, the error is of kind Missing, and lists them and those that were
// found.
func Find(dir string, e Engine) (Set, error) {
	s, missing := find(dir, e)
	if len(missing) == 0 {
		return s, nil
	}
	var names, pull, found []string
	for _, k := range missing {
		names = append(names, kinds[k].name+" ("+kinds[k].places[0]+")")
		pull = append(pull, "lipstream models pull "+string(k))
	}
	if missing[0] == engines[e].unet {
		pull = []string{e.Pull()} // with the others
	}
	for _, f := range s.files(e) {
		found = append(found, kinds[f.Kind].name+" is "+f.Path)
	}
	cause := "missing: " + strings.Join(names, ", ")
	if len(found) > 0 {
		cause += "; found: " + strings.Join(found, ", ")
	}
	return s, fault.Missing.New("find the checkpoints of "+e.String()+" in "+dir, cause, "run: "+strings.Join(pull, ", then "))
}

// FindAll returns the checkpoints of all engines whose UNet is in a models folder, without
// duplicates. If some are missing, or there is no UNet, the error is that of Find for the
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
	search := places(dir)
	unet := first(engines[e].unet, kinds[engines[e].unet].places, search)
	if s.UNet = unet.path; s.UNet != "" {
		if st, err := os.Stat(s.UNet); err == nil {
			s.Version, _ = quickVersion(unet.kind, s.UNet, st)
		}
		search = append([]place{unet.beside()}, search...)
	}
	whisper, vae := first(Whisper, kinds[Whisper].places, search), first(VAE, kinds[VAE].places, search)
	s.Whisper, s.VAE = whisper.path, vae.path
	s.TAESDDecoder = first(TAESD, taesdPlaces("decoder"), search).path
	s.TAESDEncoder = first(TAESD, taesdPlaces("encoder"), search).path
	for _, h := range []hit{unet, whisper, vae} {
		if h.path == "" {
			missing = append(missing, h.kind)
		}
	}
	return s, missing
}

// hit is a file that was found.
type hit struct {
	kind  Kind
	path  string // "" if none was found
	place place
}

// beside returns the folder of the file as a place.
func (h hit) beside() place {
	return place{name: h.place.name, dir: filepath.Dir(h.path), shared: h.place.shared}
}

// all returns the files of a kind in the places, without duplicates. normal are the paths
// for folders that have no others.
func all(kind Kind, normal []string, search []place) iter.Seq[hit] {
	return func(yield func(hit) bool) {
		var seen []fs.FileInfo
		for _, p := range search {
			for _, name := range p.paths(kind, normal) {
				path := filepath.Join(p.dir, filepath.FromSlash(name))
				st, err := os.Stat(path)
				if err != nil || st.IsDir() || slices.ContainsFunc(seen, func(s fs.FileInfo) bool { return os.SameFile(s, st) }) {
					continue
				}
				seen = append(seen, st)
				if !yield(hit{kind, path, p}) {
					return
				}
			}
		}
	}
}

// first returns the first of them. Its path is "" if there is none.
func first(kind Kind, normal []string, search []place) hit {
	for h := range all(kind, normal, search) {
		return h
	}
	return hit{kind: kind}
}

// Row describes a checkpoint of a models folder, or one that is missing.
type Row struct {
	Kind     Kind              `json:"kind"`
	Path     string            `json:"path,omitempty"`  // "" when missing
	Found    string            `json:"found,omitempty"` // where: a name for people, such as "ComfyUI"
	Size     int64             `json:"size,omitempty"`  // in bytes
	Version  *Version          `json:"version,omitempty"`
	Prepared map[string]string `json:"prepared,omitempty"` // converted files by their type: "f16", "bf16"
	Hint     string            `json:"hint,omitempty"`     // how to get what is missing
}

// List returns the checkpoints that Find would search, with all versions of the UNets, and
// those that are missing. It reads no weights: a UNet whose version is not known yet has
// the zero Version.
func List(ctx context.Context, dir string) []Row {
	var rows []Row
	add := func(kind Kind, hits ...hit) {
		hits = slices.DeleteFunc(hits, func(h hit) bool { return h.path == "" })
		for _, h := range hits {
			rows = append(rows, row(ctx, h))
		}
		if len(hits) == 0 {
			pull := string(kind)
			if kind == UNet {
				pull = version16
			}
			rows = append(rows, Row{Kind: kind, Hint: "run: lipstream models pull " + pull})
		}
	}
	search := places(dir)
	unets := slices.Collect(all(UNet, kinds[UNet].places, search))
	add(UNet, unets...)
	add(MuseTalkUNet, slices.Collect(all(MuseTalkUNet, kinds[MuseTalkUNet].places, search))...)
	if len(unets) > 0 {
		search = append([]place{unets[0].beside()}, search...) // as in find
	}
	add(Whisper, first(Whisper, kinds[Whisper].places, search))
	add(VAE, first(VAE, kinds[VAE].places, search))
	decoder, encoder := first(TAESD, taesdPlaces("decoder"), search), first(TAESD, taesdPlaces("encoder"), search)
	if encoder.path == decoder.path {
		encoder.path = ""
	}
	add(TAESD, decoder, encoder)
	return rows
}

// row describes a checkpoint.
func row(ctx context.Context, h hit) Row {
	kind, path := h.kind, h.path
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	r := Row{Kind: kind, Path: path, Found: h.place.name, Prepared: map[string]string{}}
	if st, err := os.Stat(path); err == nil {
		r.Size = st.Size()
		if kind.isUNet() {
			v, _ := quickVersion(kind, path, st)
			r.Version = &v
		}
	}
	for _, d := range []tensor.DType{tensor.F16, tensor.BF16, tensor.I8} {
		if file, ok := Prepared(ctx, path, d); ok {
			r.Prepared[d.String()] = file
		}
	}
	return r
}
