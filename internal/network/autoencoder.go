package network

import (
	"fmt"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
)

// Autoencoder describes a network between images and latents, so that the VAE and TAESD
// can be used in the same way.
type Autoencoder struct {
	Latent int // channels of the latents
	Factor int // side of an image divided by the side of its latents
	Width  int // channels of the feature maps of the size of the image
	// Scale is the factor between the latents of the graphs and those that the UNet sees:
	// the encoder's "mean" is multiplied by it, and the decoder's "latents" are divided
	// by it before. The graphs do neither.
	Scale float32
	// Samples reports whether the encoder also has the output "logvar", that of a
	// posterior to draw from.
	Samples bool
	// Encoder returns the graph from "image" (n, 3, height, width), -1..1, to "mean"
	// (n, Latent, height/Factor, width/Factor). Decoder returns the graph from "latents"
	// (n, Latent, height, width) to "image" (n, 3, Factor·height, Factor·width), about
	// -1..1, not clamped. One of them is nil if the checkpoint does not contain it.
	Encoder, Decoder AutoencoderGraph
	// Rows returns the graph of a decoder that computes only rows from (inclusive) to to
	// (exclusive) of the image: "image" is (n, 3, to-from, Factor·width). Rows is nil if
	// every pixel depends on the whole of the latents.
	Rows func(from, to int) AutoencoderGraph
}

// AutoencoderGraph returns the graph of half of an Autoencoder, for n images of height×width,
// or n latents.
type AutoencoderGraph func(n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error)

// DetectAutoencoder returns what a checkpoint contains, the VAE or TAESD, and checks all
// tensors.
func DetectAutoencoder(f *checkpoint.File) (Autoencoder, error) {
	if !IsTAESD(f) {
		c, err := DetectVAE(f)
		if err != nil {
			return Autoencoder{}, err
		}
		return VAE(c), nil
	}
	c, err := DetectTAESD(f)
	a := Autoencoder{Latent: c.Latent, Factor: c.Factor(), Width: c.Width, Scale: 1, Encoder: bind(TAESDEncoder, c, c.Encoder)}
	if c.Decoder {
		a.Decoder = func(n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
			return TAESDDecoder(c, n, height, width, 0, c.Factor()*height, w, t)
		}
		a.Rows = func(from, to int) AutoencoderGraph {
			return func(n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
				return TAESDDecoder(c, n, height, width, from, to, w, t)
			}
		}
	}
	return a, err
}

// VAE returns the Stable Diffusion VAE of a topology.
func VAE(c VAEConfig) Autoencoder {
	return Autoencoder{
		Latent: c.Latent, Factor: c.Factor(), Width: c.Channels[0], Scale: VAEScale, Samples: true,
		Encoder: bind(VAEEncoder, c, true), Decoder: bind(VAEDecoder, c, true),
	}
}

// bind returns f for a topology, or nil.
func bind[C any](f func(c C, n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error), c C, exists bool) AutoencoderGraph {
	if !exists {
		return nil
	}
	return func(n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
		return f(c, n, height, width, w, t)
	}
}

// checkSize returns an error for an image that cannot be encoded.
func checkSize(factor, height, width int) error {
	if height%factor != 0 || width%factor != 0 {
		return fmt.Errorf("an image has %d×%d pixels, which are not multiples of %d", width, height, factor)
	}
	return nil
}
