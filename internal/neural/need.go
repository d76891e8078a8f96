package neural

import (
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// need estimates the most memory that the engine takes under a plan, in bytes: its
// networks, the tensors between them, and the frames that it holds.
//
// On a device with memory of its own, both halves of guidance are in one call, and the
// device's own libraries take memory, too.
//
// A network takes its weights, which the backend repacks, a constant for each compiled
// graph, and its feature maps. The factors were measured (docs/memory.md).
func (c configs) need(o Options, p memory.Plan) int64 {
	precision := planned(p)
	size := int64(precision.DType().Size())
	pixels := int64(o.Resolution) * int64(o.Resolution)
	latent := pixels / int64(c.vae.Factor()*c.vae.Factor())

	var all, largest int64
	for _, n := range c.parts {
		all += n * size
		largest = max(largest, n*size)
	}
	maps := int64(p.Frames) * latent * int64(c.unet.Channels[0]) * mapsUNet * max(size, 2)
	// The skips between graphs, for both halves of guidance.
	flow := int64(p.Frames) * latent * int64(c.unet.Channels[0]) * 4 * skipsUNet
	if o.Batched {
		maps, flow = maps*int64(p.Windows), flow*int64(p.Windows)
	}
	if o.Device.Resident {
		if flow = flow / 4 * max(size, 2); o.Guidance > 1 { // the skips have the type of the activations
			maps *= 2
		}
		maps += deviceContext
	}
	// The largest graph is compiled before the others are loaded.
	unet := all + max(all/20, compiling*largest-all) + int64(len(c.parts))*perGraph + maps + flow
	if p.Offload == memory.OffloadSequential {
		unet = largest + 3*perGraph + maps + flow*2*int64(p.Windows)
	}

	vaePixels := pixels
	if p.Tile > 0 && p.Tile < o.Resolution {
		vaePixels = int64(p.Tile) * int64(p.Tile)
	}
	vaeMaps := int64(p.VAEFrames) * vaePixels * int64(c.vae.Channels[0]) * 4 * mapsVAE
	vae := elements(network.VAEWants(c.vae))*size + 2*perGraph + vaeMaps
	whisper := elements(network.WhisperWants(c.whisper))*4 + perGraph + 100<<20

	held := int64(o.hold(p)) * (o.FrameBytes + 3*pixels)
	if p.Offload == memory.OffloadNone {
		return held + unet + vae + vaeMaps + whisper
	}
	return held + max(unet, vae/2+vaeMaps, whisper)
}

// The factors of need.
const (
	perGraph      = 33 << 20
	mapsUNet      = 12 // feature maps held, as multiples of the largest
	skipsUNet     = 5
	mapsVAE       = 8
	deviceContext = 900 << 20 // CUDA's context, cuBLAS, cuDNN and their workspaces: not measured yet
	compiling     = 2         // memory while a graph is compiled, as a multiple of its weights
)

func elements(wants []checkpoint.Want) (n int64) {
	for _, w := range wants {
		n += int64(tensor.Volume(w.Shape))
	}
	return n
}
