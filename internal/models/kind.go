package models

import (
	"fmt"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/network"
)

// Kind is the network that a checkpoint holds.
type Kind string

// The networks of the engines.
const (
	UNet         Kind = "unet"     // LatentSync's
	MuseTalkUNet Kind = "musetalk" // MuseTalk's
	Whisper      Kind = "whisper"  // of both engines
	VAE          Kind = "vae"      // of both engines
	TAESD        Kind = "taesd"    // instead of the VAE, or of a half of it
)

// Engine is an engine with checkpoints. The values are those of the setting `engine`.
type Engine string

// The engines with checkpoints.
const (
	LatentSync Engine = "latentsync"
	MuseTalk   Engine = "musetalk"
)

// String returns the name for people.
func (e Engine) String() string {
	if e == MuseTalk {
		return "MuseTalk"
	}
	return "LatentSync"
}

// Pull returns the command that downloads the checkpoints of the engine.
func (e Engine) Pull() string { return "lipstream models pull " + engines[e].pull }

// engine describes the checkpoints of an engine: its UNet, and Whisper and the VAE, which
// the engines share.
type engine struct {
	unet Kind
	pull string // the argument of Pull for all of them
}

var engines = map[Engine]engine{
	LatentSync: {UNet, version16},
	MuseTalk:   {MuseTalkUNet, "musetalk"},
}

// Engines lists the engines with checkpoints.
func Engines() []Engine { return []Engine{LatentSync, MuseTalk} }

// Engines lists the engines that need the kind. TAESD is always optional.
func (k Kind) Engines() []Engine {
	switch k {
	case UNet:
		return []Engine{LatentSync}
	case MuseTalkUNet:
		return []Engine{MuseTalk}
	case Whisper, VAE:
		return Engines()
	}
	return nil
}

// HalfPrecision reports whether Prepare converts checkpoints of the kind. Whisper stays
// float32, and TAESD is small.
func (k Kind) HalfPrecision() bool { return k == UNet || k == MuseTalkUNet || k == VAE }

// isUNet reports whether a checkpoint of the kind has a Version.
func (k Kind) isUNet() bool { return k == UNet || k == MuseTalkUNet }

// kindInfo is what distinguishes the kinds.
type kindInfo struct {
	name   string // for messages
	places []string
	detect func(*checkpoint.File) (topology string, wants []checkpoint.Want, err error)
	extra  func(name string) bool // tensors that may exist but are not used
}

// kinds describes the kinds. places are the possible paths of the files in a folder, in
// the order of the search. These are the layouts of the originals' folders and of
// ComfyUI's nodes.
var kinds = map[Kind]kindInfo{
	UNet: {
		name:   "the UNet",
		places: []string{"latentsync_unet.pt", "latentsync_unet.safetensors"},
		detect: detectWith(network.DetectUNet, network.UNetWants, func(c network.UNetConfig) string {
			return fmt.Sprintf("%s, up to %d frames a window", unetTopology(c), c.Positions)
		}),
	},
	MuseTalkUNet: {
		name: "the UNet of MuseTalk",
		places: []string{
			"musetalkV15/unet.pth", "musetalkV15/unet.safetensors", "unet.pth", "unet.safetensors",
			"musetalk/pytorch_model.bin", "musetalk/pytorch_model.safetensors",
		},
		detect: detectWith(network.DetectMuseTalk, network.UNetWants, unetTopology),
	},
	Whisper: {
		name: "Whisper",
		places: []string{
			"whisper/tiny.pt", "tiny.pt", "whisper/pytorch_model.bin", "whisper/model.safetensors",
			"whisper-tiny/pytorch_model.bin", "whisper-tiny/model.safetensors",
		},
		detect: detectWith(network.DetectWhisper, network.WhisperWants, func(c network.WhisperConfig) string {
			return fmt.Sprintf("%d mels, context %d, width %d, %d heads, %d layers", c.Mels, c.Context, c.State, c.Heads, c.Layers)
		}),
		extra: network.WhisperExtra,
	},
	VAE: {
		name: "the VAE",
		places: []string{
			"vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin",
			"vae/sd-vae-ft-mse.safetensors", "sd-vae-ft-mse.safetensors",
			"vae/vae-ft-mse-840000-ema-pruned.safetensors", "vae-ft-mse-840000-ema-pruned.safetensors", // in the original's layout
			"stabilityai/sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "stabilityai/sd-vae-ft-mse/diffusion_pytorch_model.bin",
			"sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "sd-vae-ft-mse/diffusion_pytorch_model.bin",
			"sd-vae/diffusion_pytorch_model.safetensors", "sd-vae/diffusion_pytorch_model.bin",
		},
		detect: detectWith(network.DetectVAE, network.VAEWants, func(c network.VAEConfig) string {
			return fmt.Sprintf("channels %v, %d layers a block, %d latent channels, %d times smaller", c.Channels, c.Layers, c.Latent, c.Factor())
		}),
	},
	TAESD: {
		name:   "TAESD",
		places: taesdPlaces("decoder"),
		detect: detectWith(network.DetectTAESD, network.TAESDWants, func(c network.TAESDConfig) string {
			what := map[[2]bool]string{{true, true}: "encoder and decoder", {true, false}: "encoder", {false, true}: "decoder"}
			return fmt.Sprintf("%s, width %d, %d latent channels, %d times smaller", what[[2]bool{c.Encoder, c.Decoder}], c.Width, c.Latent, c.Factor())
		}),
	},
}

// taesdPlaces returns the places of a half of TAESD. The first one holds both.
func taesdPlaces(half string) []string {
	name := "taesd_" + half
	return []string{
		"taesd/diffusion_pytorch_model.safetensors", "taesd/" + name + ".safetensors", "taesd/" + name + ".pth",
		"vae_approx/" + name + ".safetensors", "vae_approx/" + name + ".pth", name + ".safetensors", name + ".pth",
	}
}

func unetTopology(c network.UNetConfig) string {
	return fmt.Sprintf("channels %v, %d layers a block, %d to %d latent channels, audio width %d", c.Channels, c.Layers, c.In, c.Out, c.AudioDim)
}

// detectWith joins the functions of a topology.
func detectWith[C any](detect func(*checkpoint.File) (C, error), wants func(C) []checkpoint.Want, topology func(C) string) func(*checkpoint.File) (string, []checkpoint.Want, error) {
	return func(f *checkpoint.File) (string, []checkpoint.Want, error) {
		c, err := detect(f)
		if err != nil {
			return "", nil, err
		}
		return topology(c), wants(c), nil
	}
}

// kindOf recognises the network by tensors that only it has.
func kindOf(f *checkpoint.File) Kind {
	has := func(name string) bool { return f.Tensor(name) != nil }
	switch {
	case network.IsMuseTalk(f):
		return MuseTalkUNet
	case has("conv_in.weight") || has("time_embedding.linear_1.weight"):
		return UNet
	case network.IsTAESD(f):
		return TAESD
	case has("encoder.conv_in.weight") || has("decoder.conv_in.weight"):
		return VAE
	case has("encoder.positional_embedding") || has("encoder.conv1.weight") || has("model.encoder.conv1.weight"):
		return Whisper
	}
	return ""
}
