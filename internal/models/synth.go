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
	Engine     Engine       // "" is LatentSync
	Size       string       // "tiny" or "full"
	Seed       uint64       // of the weights
	Resolution int          // what the checkpoint is declared to be made for: 256 or 512; 256 for MuseTalk
	DType      tensor.DType // tensor.F32 or tensor.F16
	TAESD      bool         // also write TAESD
	Progress   func(done, total int64)

	free func(dir string) (int64, error) // for tests
}

// topologies are the networks of the sets.
type topologies struct {
	unet, museTalk network.UNetConfig
	whisper        network.WhisperConfig
	vae            network.VAEConfig
	taesd          network.TAESDConfig
}

// sized returns the networks of a size. The tiny ones have the same kinds of blocks as the
// published ones.
func sized(name string) (t topologies, ok bool) {
	t = topologies{network.Published(), network.PublishedMuseTalk(), network.PublishedWhisper(), network.PublishedVAE(), network.PublishedTAESD()}
	if name == "tiny" {
		for _, c := range []*network.UNetConfig{&t.unet, &t.museTalk} {
			c.Channels, c.AudioDim = []int{32, 32, 64, 64}, 64
		}
		t.whisper = network.WhisperConfig{Mels: 80, Context: 1500, State: 64, Heads: 2, Layers: 4}
		t.vae = network.VAEConfig{Channels: []int{32, 32, 32, 32}, Layers: 1, Latent: 4}
		t.taesd.Width = 16
	}
	t.whisper.Normalized = true // MuseTalk needs these tensors
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
// no decoder, which the engines do not use. The same options make the same files.
// Synth does not replace existing files (fault.Output).
func Synth(ctx context.Context, dir string, o SynthOptions) (paths []string, err error) {
	t, ok := sized(o.Size)
	if o.Engine == "" {
		o.Engine = LatentSync
	}
	switch {
	case !slices.Contains(Engines(), o.Engine):
		return nil, fault.Field("engine", string(o.Engine), "has no checkpoints", "choose latentsync or musetalk")
	case !ok:
		return nil, fault.Field("size", o.Size, "is not known", "choose tiny or full")
	case o.Resolution != 256 && (o.Resolution != 512 || o.Engine == MuseTalk):
		return nil, fault.Field("resolution", fmt.Sprint(o.Resolution), "is not a resolution of "+o.Engine.String(),
			map[Engine]string{LatentSync: "choose 256 or 512", MuseTalk: "choose 256"}[o.Engine])
	case o.DType != tensor.F32 && o.DType != tensor.F16:
		return nil, fault.Field("dtype", o.DType.String(), "is not supported", "choose f32 or f16")
	}
	if o.Progress == nil {
		o.Progress = func(done, total int64) {}
	}
	files := synthFiles(t, o)
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
		if f.place == kinds[UNet].places[0] {
			if err := writeSidecar(path, Version{Name: Synthetic, Resolution: o.Resolution}, sum); err != nil {
				return paths, fault.Output.Wrap("write "+path, fault.WithoutPath(err))
			}
		}
	}
	return paths, nil
}

// synthFiles lists the files of a set.
func synthFiles(t topologies, o SynthOptions) []synthFile {
	specs := func(wants []checkpoint.Want, name func(checkpoint.Want) string) []checkpoint.Spec {
		var s []checkpoint.Spec
		for _, w := range wants {
			s = append(s, checkpoint.Spec{Name: name(w), DType: o.DType, Shape: w.Shape})
		}
		return s
	}
	named := func(w checkpoint.Want) string { return w.Name }
	torch := func(place string, s []checkpoint.Spec, stateKey string, top ...checkpoint.Entry) synthFile {
		return synthFile{place, s, func(w io.Writer, s []checkpoint.Spec, fill func(int, io.Writer) error) error {
			return checkpoint.WriteTorch(w, top, stateKey, s, fill)
		}}
	}
	safetensors := func(place string, s []checkpoint.Spec) synthFile {
		return synthFile{place, s, func(w io.Writer, s []checkpoint.Spec, fill func(int, io.Writer) error) error {
			return checkpoint.WriteSafetensors(w, map[string]string{"format": "pt"}, s, fill)
		}}
	}
	config := func(place string, v any) synthFile {
		text, _ := json.MarshalIndent(v, "", "  ") // strings and numbers cannot fail
		return synthFile{place, nil, func(w io.Writer, _ []checkpoint.Spec, _ func(int, io.Writer) error) error {
			_, err := w.Write(append(text, '\n'))
			return err
		}}
	}
	vaeConfig := map[string]any{
		"_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3, "out_channels": 3, "sample_size": 256,
		"block_out_channels": t.vae.Channels, "layers_per_block": t.vae.Layers, "latent_channels": t.vae.Latent, "norm_num_groups": 32,
		"down_block_types": slices.Repeat([]string{"DownEncoderBlock2D"}, len(t.vae.Channels)), "up_block_types": slices.Repeat([]string{"UpDecoderBlock2D"}, len(t.vae.Channels)),
	}
	vae, w := specs(network.VAEWants(t.vae), named), t.whisper
	var files []synthFile
	switch o.Engine {
	case LatentSync:
		dims := []checkpoint.Entry{
			{Key: "n_mels", Value: w.Mels}, {Key: "n_audio_ctx", Value: w.Context}, {Key: "n_audio_state", Value: w.State},
			{Key: "n_audio_head", Value: w.Heads}, {Key: "n_audio_layer", Value: w.Layers},
		}
		files = []synthFile{
			torch(kinds[UNet].places[0], specs(network.UNetWants(t.unet), named), "state_dict", checkpoint.Entry{Key: "global_step", Value: 0}),
			torch("whisper/tiny.pt", specs(network.WhisperWants(w), named), "model_state_dict", checkpoint.Entry{Key: "dims", Value: dims}),
			config("vae/config.json", vaeConfig),
			safetensors("vae/diffusion_pytorch_model.safetensors", vae),
		}
	case MuseTalk:
		inTransformers := func(w checkpoint.Want) string { return w.Aliases[0] }
		u := t.museTalk
		files = []synthFile{
			torch(kinds[MuseTalkUNet].places[0], specs(network.UNetWants(u), named), ""),
			config("musetalkV15/"+museTalkConfigName, museTalkConfig{
				Class: "UNet2DConditionModel", Version: Synthetic,
				Channels: u.Channels, Layers: u.Layers, In: u.In, Out: u.Out, AudioDim: u.AudioDim, Heads: u.Heads,
			}),
			config("whisper/config.json", map[string]any{
				"model_type": "whisper", "num_mel_bins": w.Mels, "max_source_positions": w.Context, "d_model": w.State,
				"encoder_layers": w.Layers, "encoder_attention_heads": w.Heads, "encoder_ffn_dim": 4 * w.State,
			}),
			torch("whisper/pytorch_model.bin", specs(network.WhisperWants(w), inTransformers), ""),
			config("sd-vae/config.json", vaeConfig),
			torch("sd-vae/diffusion_pytorch_model.bin", vae, ""),
		}
	}
	if o.TAESD {
		files = append(files, safetensors(kinds[TAESD].places[0], specs(network.TAESDWants(t.taesd), named)))
	}
	return files
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
