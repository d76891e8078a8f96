package network

import (
	"fmt"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
)

// shapes reads topologies off a checkpoint.
type shapes struct{ *checkpoint.File }

// dim returns a dimension of the named tensor, or 0 if it does not exist.
func (s shapes) dim(name string, i int) int {
	if t := s.Tensor(name); t != nil && i < len(t.Shape) {
		return t.Shape[i]
	}
	return 0
}

// count is how many consecutive names of a pattern exist, from 0 on.
func (s shapes) count(pattern string) int {
	for n := 0; ; n++ {
		if s.Tensor(fmt.Sprintf(pattern, n)) == nil {
			return n
		}
	}
}

func notOne(f *checkpoint.File, what, hint string) error {
	names := f.Names()
	first := names[:min(3, len(names))]
	return fault.Input.New("read checkpoint "+f.Path(), fmt.Sprintf("it is not %s: its %d tensors begin with %v", what, len(names), first), hint)
}

// DetectUNet reads the topology off a checkpoint and checks every tensor
// against it.
func DetectUNet(f *checkpoint.File) (UNetConfig, error) {
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
	const pe = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
	c.Positions = s.dim(pe, 1)
	if len(c.Channels) < 2 || c.Layers == 0 || c.In == 0 || c.AudioDim == 0 || c.Positions == 0 {
		hint := "take latentsync_unet.pt of LatentSync 1.5 or 1.6"
		if c.In > 0 && c.Positions == 0 {
			hint = "it has no motion modules, as if it were an image model; " + hint
		}
		return c, notOne(f, "a LatentSync UNet", hint)
	}
	if err := c.check(); err != nil {
		return c, fault.Input.Wrap("read checkpoint "+f.Path(), err, "take latentsync_unet.pt of LatentSync 1.5 or 1.6")
	}
	return c, f.Check("a LatentSync UNet", UNetWants(c), nil)
}

// check refuses what the graphs cannot be built for.
func (c UNetConfig) check() error {
	for _, n := range c.Channels {
		if n%groups != 0 || n%c.Heads != 0 {
			return fmt.Errorf("%d channels do not divide into %d groups and %d heads", n, groups, c.Heads)
		}
	}
	if c.Out <= 0 || c.In != 3*c.Out+1 {
		return fmt.Errorf("%d channels go in and %d come out: a LatentSync UNet takes latents, mask, masked and reference latents, that is 13 for 4", c.In, c.Out)
	}
	return nil
}

// DetectVAE reads the topology off a checkpoint and checks every tensor
// against it.
func DetectVAE(f *checkpoint.File) (VAEConfig, error) {
	s := shapes{f}
	c := VAEConfig{
		Layers: s.count("encoder.down_blocks.0.resnets.%d.conv1.weight"),
		Latent: s.dim("decoder.conv_in.weight", 1),
	}
	for i := range s.count("encoder.down_blocks.%d.resnets.0.conv1.weight") {
		c.Channels = append(c.Channels, s.dim(fmt.Sprintf("encoder.down_blocks.%d.resnets.0.conv1.weight", i), 0))
	}
	const hint = "take diffusion_pytorch_model.safetensors of stabilityai/sd-vae-ft-mse (the diffusers layout)"
	if len(c.Channels) < 2 || c.Layers == 0 || c.Latent == 0 {
		return c, notOne(f, "a VAE in the layout of diffusers", hint)
	}
	for _, n := range c.Channels {
		if n == 0 || n%groups != 0 {
			return c, notOne(f, "a VAE that can be used", hint)
		}
	}
	return c, f.Check("the VAE", VAEWants(c), nil)
}

// DetectWhisper reads the topology off a checkpoint and checks every tensor
// against it.
func DetectWhisper(f *checkpoint.File) (WhisperConfig, error) {
	s := shapes{f}
	c := WhisperConfig{
		Mels:    s.dim("encoder.conv1.weight", 1),
		Context: s.dim("encoder.positional_embedding", 0),
		State:   s.dim("encoder.positional_embedding", 1),
		Layers:  s.count("encoder.blocks.%d.attn.key.weight"),
	}
	c.Heads = c.State / 64 // in every published size
	if n, ok := f.Scalar("dims.n_audio_head"); ok {
		if v, ok := n.(int64); ok && v > 0 {
			c.Heads = int(v)
		}
	}
	const hint = "take whisper/tiny.pt, as OpenAI published it"
	if c.Mels == 0 || c.Context == 0 || c.Layers == 0 || c.Heads == 0 || c.State%c.Heads != 0 {
		return c, notOne(f, "a Whisper checkpoint", hint)
	}
	return c, f.Check("the Whisper encoder", WhisperWants(c), WhisperExtra)
}
