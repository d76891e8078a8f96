package models

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// detected is what detect finds.
type detected struct {
	kind     Kind
	topology string
	wants    []checkpoint.Want
	extra    func(name string) bool // tensors that are there and not used
}

// detect tells which network a checkpoint holds, one of those allowed, and
// checks all its tensors.
func detect(f *checkpoint.File, allowed ...Kind) (detected, error) {
	kind := kindOf(f)
	ok := len(allowed) == 0
	for _, k := range allowed {
		ok = ok || k == kind
	}
	d := detected{kind: kind}
	if kind == "" || !ok {
		names := f.Names()
		what := fmt.Sprintf("its %d tensors begin with %q", len(names), names[:min(3, len(names))])
		if kind != "" {
			what = "it is " + string(kind)
		}
		return d, fault.Input.New("read checkpoint "+f.Path(), "not one that can be used here: "+what,
			"take latentsync_unet.pt of LatentSync 1.5 or 1.6, whisper/tiny.pt, or the VAE stabilityai/sd-vae-ft-mse")
	}
	switch kind {
	case UNet:
		c, err := network.DetectUNet(f)
		if err != nil {
			return d, err
		}
		d.wants = network.UNetWants(c)
		d.topology = fmt.Sprintf("channels %v, %d layers a block, %d to %d latent channels, audio width %d, up to %d frames a window", c.Channels, c.Layers, c.In, c.Out, c.AudioDim, c.Positions)
	case VAE:
		c, err := network.DetectVAE(f)
		if err != nil {
			return d, err
		}
		d.wants = network.VAEWants(c)
		d.topology = fmt.Sprintf("channels %v, %d layers a block, %d latent channels, %d times smaller", c.Channels, c.Layers, c.Latent, c.Factor())
	case Whisper:
		c, err := network.DetectWhisper(f)
		if err != nil {
			return d, err
		}
		d.wants, d.extra = network.WhisperWants(c), network.WhisperExtra
		d.topology = fmt.Sprintf("%d mels, context %d, width %d, %d heads, %d layers", c.Mels, c.Context, c.State, c.Heads, c.Layers)
	}
	return d, nil
}

// kindOf guesses the network by tensors that only it has.
func kindOf(f *checkpoint.File) Kind {
	has := func(name string) bool { return f.Tensor(name) != nil }
	switch {
	case has("conv_in.weight") || has("time_embedding.linear_1.weight"):
		return UNet
	case has("encoder.conv_in.weight") || has("decoder.conv_in.weight"):
		return VAE
	case has("encoder.positional_embedding") || has("encoder.conv1.weight"):
		return Whisper
	}
	return ""
}

// Report is what Inspect found out about a checkpoint.
type Report struct {
	Path       string         `json:"path"`
	Kind       Kind           `json:"kind,omitempty"`
	Format     string         `json:"format,omitempty"` // "torch", "safetensors"
	Size       int64          `json:"size"`             // bytes of the file
	Tensors    int            `json:"tensors,omitempty"`
	Parameters int64          `json:"parameters,omitempty"` // trained values that the engine uses
	Buffers    int64          `json:"buffers,omitempty"`    // values given by a formula: positional encodings
	Unused     int64          `json:"unused,omitempty"`     // values of parts that the engine has no use for
	DTypes     map[string]int `json:"dtypes,omitempty"`     // tensors of each type
	Topology   string         `json:"topology,omitempty"`
	Version    *Version       `json:"version,omitempty"` // of a UNet
	SHA256     string         `json:"sha256,omitempty"`  // only looked at when deep
	Published  string         `json:"published,omitempty"`
	Deep       bool           `json:"deep"` // all values were looked at
}

// InspectOptions are what Inspect can be told; the zero value is right.
type InspectOptions struct {
	// Deep reads the whole file: its checksums, and whether all values are
	// finite.
	Deep     bool
	Progress func(done, total int64) // bytes read
}

// Inspect opens a checkpoint, tells what it is, and checks names and shapes of
// all its tensors; with Deep also its values, the checksums in the file, and
// its SHA-256 where one is known. What was found out before an error is in the
// Report. Errors are *fault.Error, of kind Input where the file is wrong.
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
	d, err := detect(f)
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
	if r.Kind == UNet {
		v, err := Identify(ctx, path)
		if err != nil {
			return r, err
		}
		r.Version = &v
	}
	if o.Deep {
		err = r.deep(ctx, f, st.Size(), o.Progress)
	}
	return r, err
}

// deep reads the file three times: for its SHA-256, for the checksums in it,
// and for the values.
func (r *Report) deep(ctx context.Context, f *checkpoint.File, size int64, progress func(done, total int64)) error {
	if progress == nil {
		progress = func(done, total int64) {}
	}
	parts, first := int64(3), int64(0)
	if r.Format != "torch" { // only zip has sums of its own
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

// compareSum compares the SHA-256 with what is known of such a file. A UNet
// with the size of a published one may have been trained further; Whisper and
// the VAE are used as they were published.
func (r *Report) compareSum() error {
	if k, ok := bySum(r.SHA256); ok {
		r.Published = k.name
		return nil
	}
	want, what := "", ""
	if k, ok := bySize(r.Kind, r.Size); ok && r.Kind != UNet {
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
	return fault.Input.New("check checkpoint "+r.Path, "its SHA-256 is "+r.SHA256+"; "+what+want,
		"it is damaged or was changed: download it again")
}

// checkZip reads all members of a PyTorch file, by which their checksums are
// verified.
func checkZip(ctx context.Context, path string, progress func(done int64)) error {
	z, err := zip.OpenReader(path)
	if err != nil {
		return readFault(path, err)
	}
	defer z.Close()
	buf := make([]byte, 1<<20)
	done := int64(0)
	for _, member := range z.File {
		r, err := member.Open()
		for err == nil {
			if err = ctx.Err(); err != nil {
				err = fault.Cancelled.Wrap("check checkpoint "+path, err)
				break
			}
			var n int
			n, err = r.Read(buf)
			done += int64(n)
			progress(done)
		}
		if r != nil {
			_ = r.Close()
		}
		switch {
		case errors.Is(err, io.EOF):
		case fault.KindOf(err) == fault.Cancelled:
			return err
		default:
			return fault.Input.Wrap("check checkpoint "+path, fmt.Errorf("part %q of the file: %w", member.Name, err),
				"it is damaged: download it again")
		}
	}
	return nil
}
