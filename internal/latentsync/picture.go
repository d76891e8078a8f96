package latentsync

import (
	"context"
	"errors"
	"math"

	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/latentsync/sampler"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/tensor"
)

// painter goes between frames and latents.
type painter struct {
	o       Options
	config  network.VAEConfig
	encoder *network.Chain
	decoder *network.Chain
	aligner *face.Aligner
	mask    []float32 // [R, R], 1 keep, 0 generate
	latent  []float32 // mask at the side of the latents
	alpha   []float32 // [R, R], of the generated region with its feathered edge
	// noise gives the random numbers of a posterior: of the masked picture
	// (which 0) or of the reference (1) of a frame.
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
			// A stream for each picture; 0 is the initial latents'.
			sampler.Noise(dst, o.Seed, uint32(1+2*frame+int64(which)), 0)
		},
	}
}

// matrix is the map from the frame to the aligner's crop.
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

// see crops the face out of the frame and encodes it, with and without the
// region to generate: [8, latent, latent], scaled.
func (p *painter) see(ctx context.Context, f frame.Source, index int64, m frame.Affine) (crop *frame.RGB, latents []float32, err error) {
	crop = p.aligner.Crop(f, m)
	r := p.o.Resolution
	pixels, masked := tensor.New(tensor.F32, 1, 3, r, r), tensor.New(tensor.F32, 1, 3, r, r)
	face.PixelValues(pixels.F32(), crop)
	face.MaskedPixels(masked.F32(), pixels.F32(), p.mask)
	for which, picture := range []*tensor.Tensor{masked, pixels} {
		flow := network.Flow{"image": picture}
		if err := p.encoder.Run(ctx, flow, 0, p.encoder.Len()); err != nil {
			return nil, nil, fault.Wrap(fault.KindOf(err), "encode", "the face", err, "")
		}
		latents = append(latents, p.draw(flow, index, which)...)
	}
	if err := finite(latents); err != nil {
		return nil, nil, broken("encode", "the face", err)
	}
	return crop, latents, nil
}

// draw takes the latents from the posterior: its mean, or a sample.
func (p *painter) draw(flow network.Flow, index int64, which int) []float32 {
	z := flow["mean"].F32()
	if p.o.Sample {
		noise, logvar := make([]float32, len(z)), flow["logvar"].F32()
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

// decode gives the picture of latents, [3, R, R] in about -1..1. The latents
// are not changed.
func (p *painter) decode(ctx context.Context, latents []float32) ([]float32, error) {
	side := p.o.Resolution / p.config.Factor()
	z := tensor.New(tensor.F32, 1, p.config.Latent, side, side)
	for i, v := range latents {
		z.F32()[i] = v / network.VAEScale
	}
	flow := network.Flow{"latents": z}
	if err := p.decoder.Run(ctx, flow, 0, p.decoder.Len()); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), "decode", "the face", err, "")
	}
	picture := flow["image"].F32()
	if err := finite(picture); err != nil {
		return nil, broken("decode", "the face", err)
	}
	return picture, nil
}

// paint puts a decoded picture into the frame from which the crop was taken.
func (p *painter) paint(f *frame.Frame, m frame.Affine, crop *frame.RGB, picture []float32) {
	r := p.o.Resolution
	if p.o.Whole {
		p.aligner.RestoreFrame(f, p.aligner.Resize(p.composite(crop, picture)), m)
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

// composite keeps the crop's own pixels outside the generated region (spec
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

// Close releases the networks.
func (p *painter) Close() error {
	var errs []error
	for _, c := range []*network.Chain{p.encoder, p.decoder} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	p.encoder, p.decoder = nil, nil
	return errors.Join(errs...)
}
