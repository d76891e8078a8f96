package network

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
)

// shapes reads topologies from a checkpoint.
type shapes struct{ *checkpoint.File }

// dim returns a dimension of the named tensor, or 0 if it does not exist.
func (s shapes) dim(name string, i int) int {
	if t := s.Tensor(name); t != nil && i < len(t.Shape) {
		return t.Shape[i]
	}
	return 0
}

// count returns how many tensors exist whose names follow a pattern, numbered from 0.
func (s shapes) count(pattern string) int {
	for n := 0; ; n++ {
		if s.Tensor(fmt.Sprintf(pattern, n)) == nil {
			return n
		}
	}
}

// errOther returns the error for a checkpoint of something else.
func errOther(f *checkpoint.File, want, hint string) error {
	names := f.Names()
	return fault.Input.New("read the checkpoint "+f.Path(), fmt.Sprintf("it is not %s: it has %d tensors, such as %v", want, len(names), names[:min(3, len(names))]), hint)
}

// unetConfig reads the topology of a UNet, as far as the tensors exist.
func unetConfig(f *checkpoint.File) UNetConfig {
	s := shapes{f}
	c := UNetConfig{
		Layers: s.count("down_blocks.0.resnets.%d.conv1.weight"),
		In:     s.dim("conv_in.weight", 1), Out: s.dim("conv_out.weight", 0),
		AudioDim: s.dim("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1),
		Heads:    Published().Heads, // no tensor shows it
	}
	for i := range s.count("down_blocks.%d.resnets.0.conv1.weight") {
		c.Channels = append(c.Channels, s.dim(fmt.Sprintf("down_blocks.%d.resnets.0.conv1.weight", i), 0))
	}
	c.Positions = s.dim("down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe", 1)
	return c
}

// IsMuseTalk reports whether a checkpoint looks like MuseTalk's UNet.
func IsMuseTalk(f *checkpoint.File) bool { return unetConfig(f).model() == modelMuseTalk }

// model returns the name of the program that the UNet belongs to: LatentSync, MuseTalk,
// another image model, or "" if c is no UNet.
func (c UNetConfig) model() string {
	switch {
	case len(c.Channels) < 2 || c.Layers == 0 || c.In == 0 || c.AudioDim == 0:
		return ""
	case c.Positions > 0:
		return modelLatentSync
	case c.In == PublishedMuseTalk().In && c.AudioDim != stableDiffusionText:
		return modelMuseTalk
	}
	return fmt.Sprintf("an image model with %d channels in, such as Stable Diffusion", c.In)
}

const (
	modelLatentSync     = "LatentSync"
	modelMuseTalk       = "MuseTalk"
	stableDiffusionText = 768 // width of a token of Stable Diffusion 1
)

// detectUNet returns the topology of a UNet and checks all tensors. The error says what
// the checkpoint is instead.
func detectUNet(f *checkpoint.File, model, hint string) (UNetConfig, error) {
	c := unetConfig(f)
	what := "a " + model + " UNet"
	switch is := c.model(); is {
	case "":
		return c, errOther(f, what, hint)
	case model:
	default:
		return c, fault.Input.New("read the checkpoint "+f.Path(), "it is not "+what+" but that of "+is, hint)
	}
	if err := c.check(); err != nil {
		return c, fault.Input.Wrap("read the checkpoint "+f.Path(), err, hint)
	}
	return c, f.Check(what, UNetWants(c), nil)
}

// DetectUNet returns the topology of a LatentSync UNet and checks all tensors.
func DetectUNet(f *checkpoint.File) (UNetConfig, error) {
	return detectUNet(f, modelLatentSync, "use latentsync_unet.pt of LatentSync 1.5 or 1.6")
}

// DetectMuseTalk returns the topology of a MuseTalk UNet, of version 1.0 or 1.5, and
// checks all tensors.
func DetectMuseTalk(f *checkpoint.File) (UNetConfig, error) {
	return detectUNet(f, modelMuseTalk, "use musetalkV15/unet.pth of MuseTalk 1.5, or musetalk/pytorch_model.bin of MuseTalk 1.0")
}

// check returns an error if no graphs can be built for the topology.
func (c UNetConfig) check() error {
	for _, n := range c.Channels {
		if n%groups != 0 || n%c.Heads != 0 {
			return fmt.Errorf("its %d channels do not divide into %d groups and %d heads", n, groups, c.Heads)
		}
	}
	switch {
	case c.Positions > 0 && (c.Out <= 0 || c.In != 3*c.Out+1):
		return fmt.Errorf("it has %d channels in and %d out, but a LatentSync UNet has 13 in (latents, mask, masked and reference latents) and 4 out", c.In, c.Out)
	case c.Positions == 0 && c.In != 2*c.Out:
		return fmt.Errorf("it has %d channels in and %d out, but a MuseTalk UNet has 8 in (masked and reference latents) and 4 out", c.In, c.Out)
	}
	return nil
}

// DetectVAE returns the topology of a checkpoint, in the layout of diffusers or of the
// original, and checks all tensors.
func DetectVAE(f *checkpoint.File) (VAEConfig, error) {
	s := shapes{f}
	level, layer := "encoder.down_blocks.%d.resnets.0.conv1.weight", "encoder.down_blocks.0.resnets.%d.conv1.weight"
	if f.Tensor(fmt.Sprintf(vaeOriginal.Replace(level), 0)) != nil {
		level, layer = vaeOriginal.Replace(level), vaeOriginal.Replace(layer)
	}
	c := VAEConfig{Layers: s.count(layer), Latent: s.dim("decoder.conv_in.weight", 1)}
	for i := range s.count(level) {
		c.Channels = append(c.Channels, s.dim(fmt.Sprintf(level, i), 0))
	}
	const hint = "use diffusion_pytorch_model.safetensors of stabilityai/sd-vae-ft-mse, or vae-ft-mse-840000-ema-pruned.safetensors"
	unusable := func(channels int) bool { return channels == 0 || channels%groups != 0 }
	if len(c.Channels) < 2 || c.Layers == 0 || c.Latent == 0 || slices.ContainsFunc(c.Channels, unusable) {
		return c, errOther(f, "a VAE", hint)
	}
	return c, f.Check("the VAE", VAEWants(c), func(name string) bool { return strings.HasPrefix(name, "model_ema.") })
}

// DetectWhisper returns the topology of a checkpoint, in the layout of OpenAI or of
// transformers, and checks all tensors that LatentSync uses.
func DetectWhisper(f *checkpoint.File) (WhisperConfig, error) { return detectWhisper(f, false) }

// DetectMuseTalkWhisper is DetectWhisper for MuseTalk, whose features are normalised.
func DetectMuseTalkWhisper(f *checkpoint.File) (WhisperConfig, error) { return detectWhisper(f, true) }

func detectWhisper(f *checkpoint.File, normalized bool) (WhisperConfig, error) {
	s := shapes{f}
	name := func(openAI string) string {
		for _, n := range append([]string{openAI}, whisperAliases(openAI)...) {
			if f.Tensor(strings.ReplaceAll(n, "%d", "0")) != nil {
				return n
			}
		}
		return openAI
	}
	const position, key = "encoder.positional_embedding", "encoder.blocks.%d.attn.key.weight"
	c := WhisperConfig{
		Mels:       s.dim(name("encoder.conv1.weight"), 1),
		Context:    s.dim(name(position), 0),
		State:      s.dim(name(position), 1),
		Layers:     s.count(name(key)),
		Normalized: normalized,
	}
	c.Heads = c.State / 64 // as in all published sizes
	if heads := whisperHeads(f, c.State); heads > 0 {
		c.Heads = heads
	}
	const hint = "use whisper/tiny.pt as published by OpenAI, or pytorch_model.bin of openai/whisper-tiny"
	if c.Mels == 0 || c.Context == 0 || c.Layers == 0 || c.Heads == 0 || c.State%c.Heads != 0 {
		return c, errOther(f, "a Whisper checkpoint", hint)
	}
	return c, f.Check("the Whisper encoder", WhisperWants(c), WhisperExtra)
}

// whisperHeads returns the number of heads that an OpenAI checkpoint states, or the
// config.json beside one of transformers. It returns 0 if there is none for this width.
func whisperHeads(f *checkpoint.File, state int) int {
	if n, ok := f.Scalar("dims.n_audio_head"); ok {
		heads, _ := n.(int64)
		return int(heads)
	}
	var config struct {
		Width int `json:"d_model"`
		Heads int `json:"encoder_attention_heads"`
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(f.Path()), "config.json"))
	if err != nil || json.Unmarshal(text, &config) != nil || config.Width != state {
		return 0
	}
	return config.Heads
}
