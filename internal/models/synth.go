package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// SynthOptions configures Synth.
type SynthOptions struct {
	Size       string       // "tiny" or "full"
	Seed       uint64       // of the weights
	Resolution int          // 256 or 512: what the checkpoint is declared to be made for
	DType      tensor.DType // tensor.F32 or tensor.F16
	Progress   func(done, total int64)

	free func(dir string) (int64, error) // for tests
}

// topologies are the networks of a set.
type topologies struct {
	unet    network.UNetConfig
	whisper network.WhisperConfig
	vae     network.VAEConfig
}

// sized returns the networks of a size. The tiny ones have the same kinds of blocks as the
// published ones.
func sized(name string) (t topologies, ok bool) {
	t = topologies{network.Published(), network.PublishedWhisper(), network.PublishedVAE()}
	if name == "tiny" {
		t.unet.Channels, t.unet.AudioDim = []int{32, 32, 64, 64}, 64
		t.whisper = network.WhisperConfig{Mels: 80, Context: 1500, State: 64, Heads: 2, Layers: 4}
		t.vae = network.VAEConfig{Channels: []int{32, 32, 32, 32}, Layers: 1, Latent: 4}
	}
	return t, name == "tiny" || name == "full"
}

// synthFile is one file of a synthetic set.
type synthFile struct {
	place string
	specs []checkpoint.Spec
	write func(w io.Writer, specs []checkpoint.Spec, fill func(i int, w io.Writer) error) error
}

// Synth writes random checkpoints with the formats and names of the published ones into
// a models folder, and returns their paths. Their results are noise, but take the time
// and memory of the real ones: they are for trying, measuring and testing. Whisper has
// no decoder, which the engine does not use. The same options make the same files.
// Synth does not replace existing files (fault.Output).
func Synth(ctx context.Context, dir string, o SynthOptions) (paths []string, err error) {
	t, ok := sized(o.Size)
	switch {
	case !ok:
		return nil, fault.Field("size", o.Size, "is not known", "choose tiny or full")
	case o.Resolution != 256 && o.Resolution != 512:
		return nil, fault.Field("resolution", fmt.Sprint(o.Resolution), "is not a resolution of LatentSync", "choose 256 or 512")
	case o.DType != tensor.F32 && o.DType != tensor.F16:
		return nil, fault.Field("dtype", o.DType.String(), "is not supported", "choose f32 or f16")
	}
	if o.Progress == nil {
		o.Progress = func(done, total int64) {}
	}
	files := synthFiles(t, o.DType)
	total := int64(0)
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.place))
		if _, err := os.Lstat(path); err == nil {
			return nil, fault.Output.New("write "+path, "it already exists", "set `dir` to another folder, or delete it")
		}
		for _, s := range f.specs {
			total += s.Size()
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.Output.Wrap("create "+dir, fault.WithoutPath(err), "set `dir` to another folder")
	}
	if err := enough(o.free, dir, total+spare, dir, "", "free some space, or set `dir` to another folder"); err != nil {
		return nil, err
	}
	done := int64(0)
	n := newNormals()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.place))
		sum, err := writeWhole(path, func(w io.Writer) error {
			return f.write(w, f.specs, func(i int, w io.Writer) error {
				s := f.specs[i]
				return n.fill(w, s, o.Seed, func(n int) error {
					done += int64(n)
					o.Progress(done, total)
					return ctx.Err()
				})
			})
		})
		if err != nil {
			return paths, err
		}
		paths = append(paths, path)
		if f.place == places[UNet][0] {
			if err := writeSidecar(path, Version{Name: Synthetic, Resolution: o.Resolution}, sum); err != nil {
				return paths, fault.Output.Wrap("write "+path, fault.WithoutPath(err))
			}
		}
	}
	return paths, nil
}

// synthFiles lists the files of a set.
func synthFiles(t topologies, d tensor.DType) []synthFile {
	specs := func(wants []checkpoint.Want) []checkpoint.Spec {
		var s []checkpoint.Spec
		for _, w := range wants {
			s = append(s, checkpoint.Spec{Name: w.Name, DType: d, Shape: w.Shape})
		}
		return s
	}
	type fillFunc = func(int, io.Writer) error
	w := t.whisper
	dims := []checkpoint.Entry{
		{Key: "n_mels", Value: w.Mels}, {Key: "n_audio_ctx", Value: w.Context}, {Key: "n_audio_state", Value: w.State},
		{Key: "n_audio_head", Value: w.Heads}, {Key: "n_audio_layer", Value: w.Layers},
	}
	config, _ := json.MarshalIndent(map[string]any{ // strings and numbers cannot fail
		"_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3, "out_channels": 3, "sample_size": 256,
		"block_out_channels": t.vae.Channels, "layers_per_block": t.vae.Layers, "latent_channels": t.vae.Latent, "norm_num_groups": 32,
		"down_block_types": slices.Repeat([]string{"DownEncoderBlock2D"}, len(t.vae.Channels)), "up_block_types": slices.Repeat([]string{"UpDecoderBlock2D"}, len(t.vae.Channels)),
	}, "", "  ")
	return []synthFile{
		{places[UNet][0], specs(network.UNetWants(t.unet)), func(w io.Writer, s []checkpoint.Spec, fill fillFunc) error {
			return checkpoint.WriteTorch(w, []checkpoint.Entry{{Key: "global_step", Value: 0}}, "state_dict", s, fill)
		}},
		{places[Whisper][0], specs(network.WhisperWants(t.whisper)), func(w io.Writer, s []checkpoint.Spec, fill fillFunc) error {
			return checkpoint.WriteTorch(w, []checkpoint.Entry{{Key: "dims", Value: dims}}, "model_state_dict", s, fill)
		}},
		{"vae/config.json", nil, func(w io.Writer, _ []checkpoint.Spec, _ fillFunc) error {
			_, err := w.Write(append(config, '\n'))
			return err
		}},
		{places[VAE][0], specs(network.VAEWants(t.vae)), func(w io.Writer, s []checkpoint.Spec, fill fillFunc) error {
			return checkpoint.WriteSafetensors(w, map[string]string{"format": "pt"}, s, fill)
		}},
	}
}

// writeWhole writes a file that gets its name when it is complete, and returns its
// SHA-256.
func writeWhole(path string, write func(io.Writer) error) (sum string, err error) {
	h := sha256.New()
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		err = disk.Write(path, 0o644, func(w io.Writer) error { return write(io.MultiWriter(w, h)) })
	}
	if err != nil {
		hint := "check the permissions of the folder, or set `dir` to another one"
		if disk.IsFull(err) {
			hint = "free some space, or set `dir` to another folder"
		}
		return "", fault.Output.Wrap("write "+path, fault.WithoutPath(err), hint)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
