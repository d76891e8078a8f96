package neural

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/sampler"
	"github.com/lipstream/lipstream/internal/tensor"
)

// painter encodes crops of frames as latents, and decodes latents.
type painter struct {
	crops
	o                Options
	configs          configs
	encoder, decoder half
	encoded          *held // the frame that was encoded last: its crop and latents
	// noise fills dst with the random numbers for a sample of the latents of a
	// frame's masked image (which 0) or reference (which 1).
	noise func(dst []float32, frame int64, which int)
}

// half is half of the VAE, for square images or tiles.
type half struct {
	*model
	input          string
	outputs        []string
	channels, unit int // of the input; unit is 1 for latents, and the VAE's factor for pixels
}

func newPainter(o Options, c configs, crops crops) *painter {
	return &painter{
		crops: crops, o: o, configs: c,
		noise: func(dst []float32, frame int64, which int) {
			// One stream for each image; stream 0 is for the initial latents.
			sampler.Noise(dst, o.Seed, uint32(1+2*frame+int64(which)), 0)
		},
	}
}

// addTo adds the encoder and the decoder to s. It loads nothing.
func (p *painter) addTo(s *networks) {
	add := func(h half, name string, file func(Files) string, graph network.AutoencoderGraph) half {
		h.model = s.add(model{name: name, file: file, precision: planned, stored: storedVAE,
			build: func(w *checkpoint.File, n int, t network.Target) ([]*onnx.Graph, error) {
				side := h.unit * p.tiling().tile
				return one(graph(n, side, side, w, t))
			}})
		return h
	}
	e, d := p.configs.encoder, p.configs.decoder
	outputs := []string{"mean"}
	if e.Samples {
		outputs = append(outputs, "logvar")
	}
	p.encoder = add(half{input: "image", outputs: outputs, channels: 3, unit: e.Factor}, workEncoder, func(f Files) string { return f.VAE }, e.Encoder)
	p.decoder = add(half{input: "latents", outputs: []string{"image"}, channels: d.Latent, unit: 1}, workDecoder, Files.decoder,
		func(n, height, width int, w *checkpoint.File, t network.Target) (*onnx.Graph, error) {
			return decoding(d, p.tiling().count() > 1, p.crops)(n, height, width, w, t)
		})
}

// decoding returns the graph of the decoder, of only those rows that layers read if it can.
func decoding(d network.Autoencoder, tiled bool, c crops) network.AutoencoderGraph {
	if d.Rows == nil || tiled {
		return d.Decoder
	}
	return d.Rows(c.Rows())
}

// run runs half of the VAE over n inputs, in tiles or several inputs per call as the plan
// says, and returns the joined outputs. put fills in input i.
func (p *painter) run(ctx context.Context, h half, n int, put func(dst []float32, i int)) ([][]float32, error) {
	t, batch := p.tiling(), p.batch()
	if err := h.ready(ctx, batch); err != nil {
		return nil, err
	}
	return t.each(ctx, n, batch, h.channels, h.unit, put, func(in *tensor.Tensor) (outputs []*tensor.Tensor, err error) {
		flow := network.Flow{h.input: in}
		if err := h.whole(ctx, flow); err != nil {
			return nil, err
		}
		for _, name := range h.outputs {
			outputs = append(outputs, flow[name])
		}
		return outputs, nil
	})
}

// size returns the number of values of an image's latents.
func (p *painter) size() int {
	side := p.configs.side(p.o)
	return p.configs.encoder.Latent * side * side
}

// tileOverlap is the least overlap of neighbouring tiles, in pixels.
const tileOverlap = 64

// tiling returns the tiles of the VAE under the current plan.
func (p *painter) tiling() tiling {
	f := p.configs.encoder.Factor
	return newTiling(p.o.Resolution/f, p.encoder.networks.plan().Tile/f, tileOverlap/f)
}

// batch returns the number of inputs per call under the current plan.
func (p *painter) batch() int {
	if p.tiling().count() > 1 {
		return 1
	}
	return p.encoder.networks.plan().VAEFrames
}

// encode computes the scaled latents, [8, latent, latent], of the frames that have none:
// those of the masked crop, then those of the whole crop. Frames whose crops are the same,
// as in a video from a picture, are encoded once.
func (p *painter) encode(ctx context.Context, frames []*held) error {
	var fresh []*held
	same := map[*held]*held{} // frames whose latents are those of another
	last := p.encoded
	for _, h := range frames {
		if h.latents != nil {
			continue
		}
		if last != nil && !p.o.Sample && bytes.Equal(h.crop.Pix, last.crop.Pix) {
			same[h] = last
			continue
		}
		fresh, last = append(fresh, h), h
	}
	if err := p.encodeAll(ctx, fresh); err != nil {
		return err
	}
	for h, other := range same {
		h.latents = other.latents
	}
	if last != nil {
		p.encoded = &held{condition: condition{latents: last.latents}, crop: last.crop}
	}
	return nil
}

// encodeAll encodes frames, which differ.
func (p *painter) encodeAll(ctx context.Context, frames []*held) error {
	if len(frames) == 0 {
		return nil
	}
	got, err := p.run(ctx, p.encoder, 2*len(frames), func(dst []float32, i int) { // masked and whole alternate
		p.Pixels(dst, frames[i/2].crop, i%2 == 0)
	})
	if err != nil {
		return fault.KindOf(err).Wrap("encode the face", err)
	}
	for i, h := range frames {
		latents := slices.Concat(p.draw(got[2*i], h.index, 0), p.draw(got[2*i+1], h.index, 1))
		if err := finite(latents); err != nil {
			return broken("encode", "the face", err)
		}
		h.latents = latents
	}
	return nil
}

// draw returns scaled latents from what the encoder returns: the mean, or with Sample a
// sample of the posterior, if the encoder has one.
func (p *painter) draw(posterior []float32, index int64, which int) []float32 {
	z, logvar := posterior[:p.size()], posterior[p.size():]
	if p.o.Sample && len(logvar) > 0 {
		noise := make([]float32, len(z))
		p.noise(noise, index, which)
		for i, v := range logvar {
			z[i] += float32(math.Exp(0.5*float64(v))) * noise[i]
		}
	}
	for i := range z {
		z[i] *= p.configs.encoder.Scale
	}
	return z
}

// decode returns the images of latents, each [3, R, R] in about -1..1. Rows that no layer
// reads may be 0. decode does not change the latents.
func (p *painter) decode(ctx context.Context, latents [][]float32) ([][]float32, error) {
	images, err := p.run(ctx, p.decoder, len(latents), func(dst []float32, i int) {
		for k, v := range latents[i] {
			dst[k] = v / p.configs.decoder.Scale
		}
	})
	if err != nil {
		return nil, fault.KindOf(err).Wrap("decode the face", err)
	}
	r := p.o.Resolution
	for i, image := range images {
		if err := finite(image); err != nil {
			return nil, broken("decode", "the face", err)
		}
		if rows := len(image) / (3 * r); rows < r {
			from, _ := p.Rows()
			images[i] = make([]float32, 3*r*r)
			for c := range 3 {
				copy(images[i][(c*r+from)*r:], image[c*rows*r:(c+1)*rows*r])
			}
		}
	}
	return images, nil
}
