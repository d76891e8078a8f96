package check

import (
	"context"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The sizes of the networks. They have every kind of block that the published ones have,
// and at least two channels in a group, which some kernels need.
var (
	tinyUNet    = network.UNetConfig{Channels: []int{64, 128}, Layers: 1, In: 13, Out: 4, AudioDim: 128, Heads: 8, Positions: 24}
	tinyVAE     = network.VAEConfig{Channels: []int{64, 128}, Layers: 1, Latent: 4}
	tinyWhisper = network.WhisperConfig{Mels: 80, Context: 50, State: 128, Heads: 2, Layers: 2}
)

// The sizes of the networks' inputs.
const (
	frames    = 2
	latent    = 16 // side of the UNet's latents
	tokens    = 20 // of audio for a frame
	image     = 32 // side of the VAE's images
	timestep  = 501
	psnrOfF16 = 40 // dB, as in the golden tests
	// psnrOfBF16 is that of the golden tests too: it has 8 bits of mantissa instead
	// of 11.
	psnrOfBF16 = 25
	// The largest differences in f32 are those of the golden tests.
	difference     = 1e-4
	differenceUNet = 2e-4
)

// test is a case to compute.
type test struct {
	name    string
	graphs  []*onnx.Graph
	inputs  network.Flow
	outputs []string
	limit   float64 // of the difference in f32
}

// limitIn returns the limit in a precision.
func (t test) limitIn(p backend.Precision) float64 {
	switch p {
	case backend.F16:
		return psnrOfF16
	case backend.BF16:
		return psnrOfBF16
	}
	return t.limit
}

// tests builds the cases for a backend and a precision.
func tests(weights *checkpoint.File, to network.Target) ([]test, error) {
	operators, err := network.Operators(weights, to)
	if err != nil {
		return nil, err
	}
	var list []test
	for _, o := range operators {
		inputs := network.Flow{}
		for name, shape := range o.Inputs {
			x := input(name, shape...)
			for i, v := range x.F32() { // so that no attention is to all tokens alike
				x.F32()[i] = 2 * v
			}
			inputs[name] = x
		}
		list = append(list, test{o.Name, []*onnx.Graph{o.Graph}, inputs, []string{network.OperatorOutput}, difference})
	}
	encoder, err := network.VAEEncoder(tinyVAE, 1, image, image, weights, to)
	if err != nil {
		return nil, err
	}
	side := image / tinyVAE.Factor()
	decoder, err := network.VAEDecoder(tinyVAE, 1, side, side, weights, to)
	if err != nil {
		return nil, err
	}
	whisper, err := network.Whisper(tinyWhisper, weights, to)
	if err != nil {
		return nil, err
	}
	unet, err := network.NewUNet(tinyUNet, network.UNetShape{Batch: 1, Frames: frames, Latent: latent, Tokens: tokens}, weights, to)
	if err != nil {
		return nil, err
	}
	return append(list,
		test{"Whisper encoder", []*onnx.Graph{whisper},
			network.Flow{"mel": input("mel", 1, tinyWhisper.Mels, 2*tinyWhisper.Context)}, []string{"features"}, difference},
		test{"VAE encoder", []*onnx.Graph{encoder}, network.Flow{"image": input("image", 1, 3, image, image)}, []string{"mean", "logvar"}, difference},
		test{"VAE decoder", []*onnx.Graph{decoder}, network.Flow{"latents": input("latents", 1, tinyVAE.Latent, side, side)}, []string{"image"}, difference},
		test{"UNet, 2 frames", unet.Graphs, network.Flow{
			"sample": input("sample", frames, tinyUNet.In, latent, latent),
			"time":   network.TimeEmbedding(timestep, tinyUNet.Channels[0]),
			"audio":  input("audio", frames, tokens, tinyUNet.AudioDim),
		}, []string{"noise"}, differenceUNet},
	), nil
}

// input returns random numbers.
func input(name string, shape ...int) *tensor.Tensor {
	return tensor.FromF32(random("input "+name, tensor.Volume(shape)), shape...)
}

// compute runs the case twice, calls loaded while its memory is in use, and returns both
// results and the time of the second.
func (t test) compute(ctx context.Context, b backend.Backend, o backend.Options, loaded func()) (results [2][]float32, second time.Duration, err error) {
	chain, err := network.Loader{Backend: b, Options: o}.Load(ctx, t.graphs)
	if err != nil {
		return results, 0, err
	}
	defer func() {
		if e := chain.Close(); err == nil {
			err = e
		}
	}()
	for i := range results {
		flow := network.Flow{}
		for name, v := range t.inputs {
			flow[name] = v
		}
		began := time.Now()
		if err := chain.Run(ctx, 0, chain.Len(), flow); err != nil {
			return results, 0, err
		}
		second = time.Since(began)
		for _, name := range t.outputs {
			results[i] = append(results[i], flow[name].F32()...)
		}
	}
	loaded()
	return results, second, nil
}
