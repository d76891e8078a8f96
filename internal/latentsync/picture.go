package latentsync

import (
	"context"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// painter encodes frames as latents, decodes latents, and pastes them into frames.
type painter struct {
	o       Options
	config  network.VAEConfig
	encoder *model
	decoder *model
	aligner *face.Aligner
	mask    []float32 // [R, R], 1 keep, 0 generate
	latent  []float32 // mask at the side of the latents
	alpha   []float32 // [R, R], of the generated region with its feathered edge
	// noise fills dst with the random numbers to sample a frame's masked image
	// (which 0) or reference (which 1) with.
	noise func(dst []float32, frame int64, which int)
}

// feather is the width of the soft edge in template units.
const feather = 10

func newPainter(o Options, c network.VAEConfig) *painter {
	r := o.Resolution
	return &painter{
		o: o, config: c, aligner: face.NewAligner(r),
		mask: face.Mask(r), latent: face.LatentMask(r, c.Factor()), alpha: face.MaskAlpha(r, r, feather),
		noise: func(dst []float32, frame int64, which int) {
			// One stream for each image; stream 0 is for the initial latents.
			sampler.Noise(dst, o.Seed, uint32(1+2*frame+int64(which)), 0)
		},
	}
}

// model returns half of the VAE, for square images or tiles. unit is 1 if its input are
// latents, and the VAE's factor if they are pixels.
func (p *painter) model(name string, half func(c network.VAEConfig, n, height, width int, w *checkpoint.File, t network.Target) (*onnx.Graph, error), unit int) model {
	return model{name: name, file: p.o.Files.vae, precision: planned,
		build: func(w *checkpoint.File, n int, t network.Target) ([]*onnx.Graph, error) {
			side := unit * p.tiling().tile
			return one(half(p.config, n, side, side, w, t))
		}}
}

// matrix returns the map from the frame to the aligner's crop.
func (p *painter) matrix(it lip.Item) frame.Affine {
	anchors := p.o.Anchors
	if p.o.Whole {
		if anchors == nil {
			anchors = func(it lip.Item) face.Anchors { return face.AlignPoints468(it.Face.Points).Round() }
		}
		return p.aligner.Matrix(anchors(it))
	}
	align := it.Face.Align
	if anchors != nil {
		align = face.TemplateAffine(anchors(it))
	}
	return toCrop(align, p.aligner)
}

// toCrop scales a map to the template of 210 x 280 to the aligner's crop.
func toCrop(m frame.Affine, a *face.Aligner) frame.Affine {
	x, y := float64(a.CropW)/face.TemplateW, float64(a.CropH)/face.TemplateH
	return frame.Affine{A: m.A * x, B: m.B * x, C: m.C * x, D: m.D * y, E: m.E * y, F: m.F * y}
}

// tileOverlap is the least overlap of neighbouring tiles, in pixels.
const tileOverlap = 64

// tiling returns the tiles of the VAE under the current plan.
func (p *painter) tiling() tiling {
	f := p.config.Factor()
	return newTiling(p.o.Resolution/f, p.encoder.networks.plan().Tile/f, tileOverlap/f)
}

// encode computes the scaled latents, [8, latent, latent], of the frames that have none:
// those of the masked crop, then those of the whole crop.
func (p *painter) encode(ctx context.Context, frames []*held) error {
	frames = slices.DeleteFunc(slices.Clone(frames), func(h *held) bool { return h.latents != nil })
	if len(frames) == 0 {
		return nil
	}
	picture := func(dst []float32, i int) { // masked and whole alternate
		face.PixelValues(dst, frames[i/2].crop)
		if i%2 == 0 {
			face.MaskedPixels(dst, dst, p.mask)
		}
	}
	got := make([][]float32, 0, 2*len(frames))
	take := func(i int, mean, logvar []float32) {
		got = append(got, p.draw(mean, logvar, frames[i/2].index, i%2))
	}
	if err := p.encodeAll(ctx, 2*len(frames), picture, take); err != nil {
		return fault.KindOf(err).Wrap("encode the face", err)
	}
	for i, h := range frames {
		latents := slices.Concat(got[2*i], got[2*i+1])
		if err := finite(latents); err != nil {
			return broken("encode", "the face", err)
		}
		h.latents = latents
	}
	return nil
}

// encodeAll encodes n images: put fills in image i, take gets the result.
func (p *painter) encodeAll(ctx context.Context, n int, put func(dst []float32, i int), take func(i int, mean, logvar []float32)) error {
	r, t := p.o.Resolution, p.tiling()
	if t.count() == 1 {
		if err := p.encoder.ready(ctx, p.encoder.networks.plan().VAEFrames); err != nil {
			return err
		}
		return p.batches(ctx, p.encoder, "image", []int{3, r, r}, n, put, func(i int, flow network.Flow, at int) {
			take(i, part(flow["mean"], at), part(flow["logvar"], at))
		})
	}
	if err := p.encoder.ready(ctx, 1); err != nil {
		return err
	}
	picture := make([]float32, 3*r*r)
	for i := range n {
		put(picture, i)
		both, err := encodeTiled(ctx, func(image *tensor.Tensor) (mean, logvar *tensor.Tensor, err error) {
			flow := network.Flow{"image": image}
			err = p.encoder.whole(ctx, flow)
			return flow["mean"], flow["logvar"], err
		}, picture, p.config.Factor(), t)
		if err != nil {
			return err
		}
		take(i, both[:len(both)/2], both[len(both)/2:])
	}
	return nil
}

// batches runs a network over n inputs of a shape, with as many per call as it was
// loaded for. put fills in an input; take gets the results of the call and the index of
// the input in it. The last call repeats the last input to be full.
func (p *painter) batches(ctx context.Context, net *model, input string, shape []int, n int, put func(dst []float32, i int), take func(i int, flow network.Flow, at int)) error {
	batch := net.frames
	for from := 0; from < n; from += batch {
		in := tensor.New(tensor.F32, append([]int{batch}, shape...)...)
		size := in.Len() / batch
		for k := range batch {
			put(in.F32()[k*size:(k+1)*size], min(from+k, n-1))
		}
		flow := network.Flow{input: in}
		if err := net.whole(ctx, flow); err != nil {
			return err
		}
		for k := range min(batch, n-from) {
			take(from+k, flow, k)
		}
	}
	return nil
}

// draw returns the scaled mean of the posterior or, with Sample, a sample of it.
func (p *painter) draw(mean, logvar []float32, index int64, which int) []float32 {
	z := slices.Clone(mean)
	if p.o.Sample {
		noise := make([]float32, len(z))
		p.noise(noise, index, which)
		for i, v := range logvar {
			z[i] += float32(math.Exp(0.5*float64(v))) * noise[i]
		}
	}
	for i := range z {
		z[i] *= network.VAEScale
	}
	return z
}

// part returns the slice of t that belongs to input at of a batch.
func part(t *tensor.Tensor, at int) []float32 {
	n := t.Len() / t.Shape[0]
	return t.F32()[at*n : (at+1)*n]
}

// decode returns the images of latents, each [3, R, R] in about -1..1. It does not
// change the latents.
func (p *painter) decode(ctx context.Context, latents [][]float32) ([][]float32, error) {
	put := func(dst []float32, i int) {
		for k, v := range latents[i] {
			dst[k] = v / network.VAEScale
		}
	}
	pictures, err := p.decodeAll(ctx, len(latents), put)
	if err != nil {
		return nil, fault.KindOf(err).Wrap("decode the face", err)
	}
	for _, picture := range pictures {
		if err := finite(picture); err != nil {
			return nil, broken("decode", "the face", err)
		}
	}
	return pictures, nil
}

// decodeAll decodes n images: put fills in the latents of image i.
func (p *painter) decodeAll(ctx context.Context, n int, put func(dst []float32, i int)) (pictures [][]float32, err error) {
	c, t := p.config.Latent, p.tiling()
	if t.count() == 1 {
		if err := p.decoder.ready(ctx, p.decoder.networks.plan().VAEFrames); err != nil {
			return nil, err
		}
		err = p.batches(ctx, p.decoder, "latents", []int{c, t.side, t.side}, n, put, func(_ int, flow network.Flow, at int) {
			pictures = append(pictures, part(flow["image"], at))
		})
		return pictures, err
	}
	if err := p.decoder.ready(ctx, 1); err != nil {
		return nil, err
	}
	whole := make([]float32, c*t.side*t.side)
	for i := range n {
		put(whole, i)
		picture, err := decodeTiled(ctx, func(latents *tensor.Tensor) (*tensor.Tensor, error) {
			flow := network.Flow{"latents": latents}
			err := p.decoder.whole(ctx, flow)
			return flow["image"], err
		}, whole, c, t)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture)
	}
	return pictures, nil
}

// layer is a decoded image, to be pasted into the frame from which the crop was
// taken. It implements lip.Layer.
type layer struct {
	painter *painter
	matrix  frame.Affine // from the frame to the crop
	crop    *frame.RGB
	image   []float32 // [3, R, R], -1..1
}

// Paste implements lip.Layer.
func (l layer) Paste(f *frame.Frame) { l.painter.paint(f, l.matrix, l.crop, l.image) }

// paint puts a decoded image into the frame from which the crop was taken.
func (p *painter) paint(f *frame.Frame, m frame.Affine, crop *frame.RGB, picture []float32) {
	r := p.o.Resolution
	if p.o.Whole {
		p.aligner.Restore(f, p.aligner.Resize(p.composite(crop, picture)), m)
		return
	}
	src := frame.NewRGB(r, r)
	for i := range r * r {
		for c := range 3 {
			v := picture[c*r*r+i]*127.5 + 128 // rounds
			src.Pix[3*i+c] = byte(min(max(v, 0), 255))
		}
	}
	// The picture is the crop stretched to r x r; pixel centres are at whole
	// numbers.
	x, y := float64(r)/float64(p.aligner.CropW), float64(r)/float64(p.aligner.CropH)
	f.Blend(src, p.alpha, frame.Affine{
		A: m.A * x, B: m.B * x, C: (m.C+0.5)*x - 0.5,
		D: m.D * y, E: m.E * y, F: (m.F+0.5)*y - 0.5,
	})
}

// composite keeps the crop's own pixels outside the generated region (docs/spec/latentsync.md
// section 7.1): [3, R, R].
func (p *painter) composite(crop *frame.RGB, picture []float32) []float32 {
	out := make([]float32, len(picture))
	face.PixelValues(out, crop)
	n := len(p.mask)
	for i, v := range picture {
		m := p.mask[i%n]
		out[i] = v*(1-m) + out[i]*m
	}
	return out
}
