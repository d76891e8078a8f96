package models

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// detected is the result of detect.
type detected struct {
	kind     Kind
	topology string
	wants    []checkpoint.Want
}

// detect returns the network that a checkpoint holds, which must be one of those
// allowed (all if there are none), and checks all its tensors.
func detect(f *checkpoint.File, allowed ...Kind) (detected, error) {
	d := detected{kind: kindOf(f)}
	switch {
	case len(allowed) == 1:
		d.kind = allowed[0] // its error says what the file is instead
	case d.kind == "" || len(allowed) > 0 && !slices.Contains(allowed, d.kind):
		names := f.Names()
		what := fmt.Sprintf("its %d tensors begin with %q", len(names), names[:min(3, len(names))])
		if d.kind != "" {
			what = "it is " + string(d.kind)
		}
		return d, fault.Input.New("read the checkpoint "+f.Path(), "it is not the right kind of checkpoint: "+what,
			"use latentsync_unet.pt of LatentSync 1.5 or 1.6, unet.pth of MuseTalk 1.5, whisper/tiny.pt, or the VAE stabilityai/sd-vae-ft-mse")
	}
	var err error
	d.topology, d.wants, err = kinds[d.kind].detect(f)
	return d, err
}

// Report is the result of Inspect.
type Report struct {
	Path       string         `json:"path"`
	Kind       Kind           `json:"kind,omitempty"`
	Format     string         `json:"format,omitempty"` // "torch", "safetensors"
	Size       int64          `json:"size"`             // bytes of the file
	Tensors    int            `json:"tensors,omitempty"`
	Parameters int64          `json:"parameters,omitempty"` // trained values that the engine uses
	Buffers    int64          `json:"buffers,omitempty"`    // values given by a formula: positional encodings
	Unused     int64          `json:"unused,omitempty"`     // values that the engine does not use
	DTypes     map[string]int `json:"dtypes,omitempty"`     // tensors of each type
	Topology   string         `json:"topology,omitempty"`
	Config     string         `json:"config,omitempty"`  // what musetalk.json beside it says, if there is one
	Version    *Version       `json:"version,omitempty"` // of a UNet
	SHA256     string         `json:"sha256,omitempty"`  // only with Deep
	Published  string         `json:"published,omitempty"`
	Deep       bool           `json:"deep"` // all values were checked
}

// InspectOptions configures Inspect. The zero value is valid.
type InspectOptions struct {
	Kind Kind // the one that it must be; "" allows all
	// Deep checks the whole file: its checksums, and that all values are finite.
	Deep     bool
	Progress func(done, total int64) // bytes read
}

// Inspect identifies a checkpoint and checks the names and shapes of all its tensors.
// With Deep it also checks its values, the checksums in the file, and its SHA-256 if
// that is known. After an error, the Report contains what was found before. The error is
// of kind Input if the file is wrong.
func Inspect(ctx context.Context, path string, o InspectOptions) (r Report, err error) {
	r.Path = path
	f, err := checkpoint.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	st, err := os.Stat(path)
	if err != nil {
		return r, readFault(path, err)
	}
	r.Format, r.Size = f.Format(), st.Size()
	r.DTypes = map[string]int{}
	names := f.Names()
	r.Tensors = len(names)
	for _, name := range names {
		r.DTypes[f.Tensor(name).DType.String()]++
	}
	var allowed []Kind
	if o.Kind != "" {
		allowed = []Kind{o.Kind}
	}
	d, err := detect(f, allowed...)
	r.Kind = d.kind
	if err != nil {
		return r, err
	}
	r.Topology = d.topology
	used := map[string]bool{}
	for _, w := range d.wants {
		name, _ := f.Find(w)
		used[name] = true
	}
	for _, name := range names {
		n := int64(tensor.Volume(f.Tensor(name).Shape))
		switch {
		case !used[name]:
			r.Unused += n
		case isBuffer(name):
			r.Buffers += n
		default:
			r.Parameters += n
		}
	}
	if r.Kind.isUNet() {
		v, err := identify(ctx, r.Kind, path)
		if err != nil {
			return r, err
		}
		r.Version = &v
	}
	if r.Kind == MuseTalkUNet {
		r.Config = readMuseTalkConfig(path).String()
	}
	if o.Deep {
		err = r.deep(ctx, f, st.Size(), o.Progress)
	}
	return r, err
}

// deep reads the file three times: for its SHA-256, its checksums and its values.
func (r *Report) deep(ctx context.Context, f *checkpoint.File, size int64, progress func(done, total int64)) error {
	if progress == nil {
		progress = func(done, total int64) {}
	}
	parts, first := int64(3), int64(0)
	if r.Format != "torch" { // only zip has checksums
		parts = 2
	}
	step := func(done int64) { progress(first+done, parts*size) }
	var err error
	if r.SHA256, err = hashFile(ctx, r.Path, step); err != nil {
		return err
	}
	if err := r.compareSum(); err != nil {
		return err
	}
	first += size
	if r.Format == "torch" {
		if err := checkZip(ctx, r.Path, step); err != nil {
			return err
		}
		first += size
	}
	if err := f.Finite(ctx, func(done, total int64) { step(min(done, size)) }); err != nil {
		return err
	}
	progress(parts*size, parts*size)
	r.Deep = true
	return nil
}

// compareSum compares the SHA-256 with the known one. A UNet with the size of a
// published one may be a fine-tuned one; the others must be the published ones.
func (r *Report) compareSum() error {
	if k := bySum(r.SHA256); k != nil {
		r.Published = k.name
		return nil
	}
	want, what := "", ""
	if k := bySize(r.Kind, r.Size); k != nil && !r.Kind.isUNet() {
		want, what = k.sha256, "the published "+k.name+" of this size has "
	}
	if st, err := os.Stat(r.Path); err == nil && r.Kind == UNet {
		if s := readSidecar(r.Path, st); s != nil && s.SHA256 != "" && !strings.EqualFold(s.SHA256, r.SHA256) {
			want, what = s.SHA256, sidecarName+" beside it says "
		}
	}
	if want == "" {
		return nil
	}
	return fault.Input.New("check the checkpoint "+r.Path, "its SHA-256 is "+r.SHA256+"; "+what+want,
		"it is damaged or was changed: download it again")
}

// checkZip reads all members of a PyTorch file, which verifies their checksums.
func checkZip(ctx context.Context, path string, progress func(done int64)) error {
	z, err := zip.OpenReader(path)
	if err != nil {
		return readFault(path, err)
	}
	defer z.Close()
	count := &counter{progress: progress}
	for _, member := range z.File {
		r, err := member.Open()
		if err == nil {
			_, err = io.Copy(count, disk.Reader(ctx, r))
			_ = r.Close()
		}
		if err != nil && ctx.Err() != nil {
			return fault.Cancelled.Wrap("check the checkpoint "+path, err)
		}
		if err != nil {
			return fault.Input.Wrap("check the checkpoint "+path, fmt.Errorf("part %q of the file: %w", member.Name, err),
				"it is damaged: download it again")
		}
	}
	return nil
}
