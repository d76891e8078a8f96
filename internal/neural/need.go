package neural

import (
	"fmt"

	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
)

// needs estimates the most memory that the engine takes under a plan, in bytes: its
// networks, the tensors between them, and the frames that it holds. docs/memory.md
// compares it with what was measured.
type needs struct {
	configs
	o     Options
	known map[string]footprint // of networks, by what their size depends on
}

// footprint is the memory of a network, in bytes.
type footprint struct {
	graphs            int
	weights, heaviest int64 // of all graphs, and of the graph with the most
	kept              int64 // weights of the graphs that are not streamed
	keptGraphs        int
	arenas            int64 // what the graphs work in, if each keeps its own
	most              int64 // what the graph works in that takes the most, with the tensors that wait meanwhile
	flow              int64 // the most that waits between two graphs
}

const (
	// compiling is the memory of a graph on a CPU while it is compiled, as a multiple of
	// its weights, and perGraph a constant for each compiled graph (measured).
	compiling = 2
	perGraph  = 33 << 20
	// workspace is the largest workspace of a convolution in cuDNN besides copies in
	// another layout: a guess.
	workspace = 64 << 20
	// deviceSlack is the part of a card's arena that is lost to its division into
	// blocks: with exact growth, arenas on a CPU took 2 to 15 % more than was in use.
	deviceSlack = 10
)

// The memory that OpenVINO works in, which fuses operators in its own way, as multiples of
// the largest feature maps (measured).
const (
	openVINOMapsUNet = 12
	openVINOMapsVAE  = 8
)

// of returns the estimate for a plan.
func (n needs) of(p memory.Plan) int64 {
	e, d := n.configs.encoder, n.configs.decoder
	unet, encoder, whisper := n.unet(p), n.vae(p, e, e.Encoder, 1), n.whisper(p)
	decoder := n.vae(p, d, func(images, height, width int, w *checkpoint.File, t network.Target) (*onnx.Graph, error) {
		tiled := p.Tile > 0 && p.Tile < n.o.Resolution
		return decoding(d, tiled, n.o.recipe.crops(n.o))(images, height, width, w, t)
	}, d.Factor)
	pixels := int64(n.o.Resolution) * int64(n.o.Resolution)
	held := int64(max(1, n.o.Speakers)*n.o.hold(p)) * (n.o.FrameBytes + 3*pixels)
	if n.o.reused() { // each branch of a window keeps the UNet's first feature map, in f32
		held += 4 * int64(p.Windows*p.Frames*n.o.branches()*n.configs.unet.Channels[0]) * int64(n.side(n.o)*n.side(n.o))
	}
	if n.o.Device.Resident {
		return held + n.onDevice(p, unet, encoder, decoder, whisper)
	}
	windows := int64(1) // whose tensors wait between graphs
	all := unet.weights + max(unet.weights/20, compiling*unet.heaviest-unet.weights) + int64(unet.graphs)*perGraph + unet.arenas
	if p.Offload == memory.OffloadSequential {
		windows = 2 * int64(p.Windows)
		all = unet.kept + unet.heaviest + int64(unet.keptGraphs+1)*perGraph + unet.most - unet.flow
	}
	all += windows * unet.flow
	other := func(f footprint) int64 { return f.weights + perGraph + f.arenas }
	if p.Offload == memory.OffloadNone {
		return held + all + other(encoder) + other(decoder) + other(whisper)
	}
	return held + max(all, other(encoder), other(decoder), other(whisper))
}

// onDevice returns the memory that networks take of a device with memory of its own, in
// which they share one arena.
func (n needs) onDevice(p memory.Plan, unet footprint, others ...footprint) int64 {
	apart := int64(1) // windows that are not in one call
	if !n.o.Batched {
		apart = int64(p.Windows)
	}
	state := apart * n.o.recipe.state(n, p)
	resident, most := unet.weights, unet.most+state
	if p.Offload == memory.OffloadSequential {
		resident = unet.kept + unet.heaviest
		most += (apart - 1) * unet.flow // all windows pass a graph before the next one
	}
	for _, f := range others {
		if p.Offload == memory.OffloadNone {
			resident += f.weights
			most = max(most, f.most)
			continue
		}
		if f.weights+f.most > resident+most {
			resident, most = f.weights, f.most
		}
	}
	return lip.DeviceContext + workspace + resident + most + most/deviceSlack
}

// shape returns the frames and halves of guidance in one call of the UNet, and the pixels
// of the latents.
func (n needs) shape(p memory.Plan) (frames, halves, pixels int) {
	frames, halves = p.Frames, n.o.branches()
	if n.o.Batched {
		frames *= p.Windows
	}
	side := n.side(n.o)
	return frames, halves, side * side
}

func (n needs) unet(p memory.Plan) footprint {
	frames, _, pixels := n.shape(p)
	f := n.footprint(fmt.Sprint("unet ", frames, p.Frames, p.Slices, p.Precision, p.Weights), p, func() ([]*onnx.Graph, error) {
		return n.o.recipe.graphs(n.configs, n.o, frames/p.Frames, p.Frames, nil, storing(n.o.target(planned(p), p), storedUNet(p)))
	})
	if n.openVINO() {
		maps := int64(p.Frames*pixels*n.configs.unet.Channels[0]) * openVINOMapsUNet * int64(max(planned(p).DType().Size(), 2))
		f.arenas, f.most = maps, maps+f.flow
	}
	return f
}

// vae returns the footprint of half of the VAE. An input of it has a side of the tile or the
// whole image, divided by unit.
func (n needs) vae(p memory.Plan, a network.Autoencoder, graph network.AutoencoderGraph, unit int) footprint {
	side, images := n.o.Resolution, p.VAEFrames
	if p.Tile > 0 && p.Tile < side {
		side, images = p.Tile, 1
	}
	f := n.footprint(fmt.Sprint("vae ", unit, side, images, p.Slices, p.Precision, p.Weights), p, func() ([]*onnx.Graph, error) {
		return one(graph(images, side/unit, side/unit, nil, storing(n.o.target(planned(p), p), storedVAE(p))))
	})
	if n.openVINO() {
		f.arenas = int64(images*side*side*a.Width) * 4 * openVINOMapsVAE
	}
	return f
}

func (n needs) whisper(p memory.Plan) footprint {
	p.Precision = string(exact(p))
	f := n.footprint("whisper "+p.Precision, p, func() ([]*onnx.Graph, error) {
		return one(network.Whisper(n.configs.whisper, nil, n.o.target(planned(p), p)))
	})
	if n.openVINO() {
		f.arenas = 100 << 20 // measured
	}
	return f
}

func (n needs) openVINO() bool { return n.o.Backend.Name() == openvino.Name }

// footprint returns that of the graphs of a network, which it counts once for each key.
func (n needs) footprint(key string, p memory.Plan, build func() ([]*onnx.Graph, error)) footprint {
	if f, ok := n.known[key]; ok {
		return f
	}
	graphs, err := build()
	if err != nil {
		return footprint{} // loading fails for the same reason, and says why
	}
	f := footprint{graphs: len(graphs)}
	from := map[string]int64{} // sizes of the tensors of earlier graphs
	for i, g := range graphs {
		weights, work, waiting := g.Constants(), network.Working(g, n.o.Device), int64(0)
		for name, size := range from {
			for _, later := range graphs[i:] {
				if later.Reads(name) {
					waiting += size
					break
				}
			}
		}
		for _, name := range g.OutputNames() {
			from[name] = g.Size(name)
		}
		if !n.o.recipe.streamed(i, len(graphs)) {
			f.kept, f.keptGraphs = f.kept+weights, f.keptGraphs+1
		}
		f.weights, f.heaviest = f.weights+weights, max(f.heaviest, weights)
		f.arenas, f.flow = f.arenas+work, max(f.flow, waiting)
		f.most = max(f.most, work+waiting)
	}
	n.known[key] = f
	return f
}
