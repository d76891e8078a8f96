package network

import (
	"fmt"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
)

// TAESDConfig is the topology of TAESD, a tiny autoencoder with the latents of Stable
// Diffusion 1 (docs/spec/taesd.md). Files contain both halves, or one.
type TAESDConfig struct {
	Width            int // channels of all layers between the first and the last: 64
	Latent           int // channels of the latents: 4
	Encoder, Decoder bool
}

// PublishedTAESD returns the topology of madebyollin/taesd.
func PublishedTAESD() TAESDConfig {
	return TAESDConfig{Width: 64, Latent: 4, Encoder: true, Decoder: true}
}

const (
	taesdStages = 3 // of both halves: each halves or doubles the size
	taesdBlocks = 3 // of a stage
	taesdBlock  = 3 // convolutions of a block
)

// Factor returns the side of an image divided by the side of its latents.
func (c TAESDConfig) Factor() int { return 1 << taesdStages }

// TAESDWants lists the tensors of a checkpoint of this topology, with the names of
// diffusers. The names of the original's files, which contain one half each, are aliases.
func TAESDWants(c TAESDConfig) []checkpoint.Want {
	a := &taesd{TAESDConfig: c, builder: newBuilder("", nil, Target{})}
	if c.Encoder {
		a.encode(stack{1, 3, c.Factor(), c.Factor()})
	}
	if c.Decoder {
		a.decode(stack{1, c.Latent, 1, 1}, rows{0, c.Factor()})
	}
	return a.wanted.list
}

// TAESDEncoder returns the graph from "image" (n, 3, height, width), -1..1, to "mean"
// (n, Latent, height/Factor, width/Factor): latents as the UNet sees them, about -3..3.
func TAESDEncoder(c TAESDConfig, n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
	if err := checkSize(c.Factor(), height, width); err != nil {
		return nil, err
	}
	a := &taesd{TAESDConfig: c, builder: newBuilder("taesd encoder", w, t)}
	a.encode(stack{n, 3, height, width})
	return a.Graph, a.err
}

// TAESDDecoder returns the graph from "latents" (n, Latent, height, width), as the UNet
// sees them, to rows from (inclusive) to to (exclusive) of the image of Factor·height ×
// Factor·width: "image" (n, 3, to-from, Factor·width), about -1..1, not clamped. The rows are
// those of the whole image, because a pixel depends only on what is near.
func TAESDDecoder(c TAESDConfig, n, height, width, from, to int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
	if from < 0 || from >= to || to > c.Factor()*height {
		return nil, fmt.Errorf("an image of %d rows has no rows %d to %d", c.Factor()*height, from, to)
	}
	a := &taesd{TAESDConfig: c, builder: newBuilder("taesd decoder", w, t)}
	a.decode(stack{n, c.Latent, height, width}, rows{from, to})
	return a.Graph, a.err
}

// taesd builds the graphs. The numbers in the names of its layers are their positions in
// the original module.
type taesd struct {
	TAESDConfig
	*builder
	prefix string // in the layout of diffusers
	skip   int    // how much smaller the numbers are there
	next   int    // number of the next layer
}

func (a *taesd) begin(half string, skip, first int) {
	a.prefix, a.skip, a.next = half+".layers.", skip, first
}

func (a *taesd) encode(m stack) {
	a.begin("encoder", 0, 0)
	// The module takes 0..1.
	x := a.add(a.mul(a.inputMaps("image", m), a.constant([]float32{0.5})), a.constant([]float32{0.5}))
	x = a.block(a.layer(x, 3, a.Width, 1, true))
	for range taesdStages {
		m.h, m.w = m.h/2, m.w/2
		x = a.layer(x, a.Width, a.Width, 2, false)
		for range taesdBlocks {
			x = a.block(x)
		}
	}
	m.c = a.Latent
	a.outputMaps("mean", a.layer(x, a.Width, a.Latent, 1, true), m)
}

func (a *taesd) decode(m stack, image rows) {
	// reads[i] are the rows of the maps before doubling i that what follows reads, and
	// reads[0] those of the latents (docs/spec/taesd.md, section 4). What a map lacks at a
	// cut is padded with zeros; the error does not reach the rows that are read.
	var reads [taesdStages + 1]rows
	r := image.wider(1+taesdBlock+1, m.h<<taesdStages)
	for i := taesdStages; i > 0; i-- {
		reads[i] = rows{r.from / 2, (r.to + 1) / 2}
		r = reads[i].wider(1+taesdBlocks*taesdBlock, m.h<<(i-1))
	}
	reads[0] = r

	a.begin("decoder", 1, 1) // diffusers does not count the clamp
	x := a.someRows(a.inputMaps("latents", m), rows{0, m.h}, reads[0])
	x = a.mul(a.Op("Tanh", []onnx.Value{a.mul(x, a.constant([]float32{1. / 3}))}), a.constant([]float32{3}))
	x = a.relu(a.layer(x, a.Latent, a.Width, 1, true))
	a.next++
	has := reads[0]
	for _, r := range reads[1:] {
		for range taesdBlocks {
			x = a.block(x)
		}
		a.next++ // doubling
		x = a.doubleConv3(a.someRows(x, has, r), a.wantOf("", "weight", a.Width, a.Width, 3, 3), "", a.Width)
		a.next++
		has = rows{2 * r.from, 2 * r.to}
	}
	x = a.someRows(a.layer(a.block(x), a.Width, 3, 1, true), has, image)
	// The module returns 0..1.
	x = a.add(a.mul(x, a.constant([]float32{2})), a.constant([]float32{-1}))
	a.outputMaps("image", x, stack{m.n, 3, image.to - image.from, m.w << taesdStages})
}

// layer builds the next layer, a 3×3 convolution.
func (a *taesd) layer(x onnx.Value, in, out, stride int, bias bool) onnx.Value {
	x = a.conv3x3("", x, in, out, stride, bias)
	a.next++
	return x
}

// block builds the next layer, a residual block.
func (a *taesd) block(x onnx.Value) onnx.Value {
	y := x
	for i, part := range []string{"conv.0.", "conv.2.", "conv.4."} {
		if i > 0 {
			y = a.relu(y)
		}
		y = a.conv3x3(part, y, a.Width, a.Width, 1, true)
	}
	a.next++
	return a.relu(a.add(y, x))
}

// conv3x3 builds a convolution of the current layer.
func (a *taesd) conv3x3(part string, x onnx.Value, in, out, stride int, bias bool) onnx.Value {
	w, add := a.rows(a.Compute, a.wantOf(part, "weight", out, in, 3, 3), 0, out, out, in, 3, 3), onnx.Value("")
	if bias {
		add = a.rows(a.Compute, a.wantOf(part, "bias", out), 0, out, out)
	}
	return a.convolve(x, w, add, 3, stride, 1, 1, 1, 1)
}

// wantOf wants a tensor of the current layer and returns its name.
func (a *taesd) wantOf(part, tensor string, shape ...int) string {
	name := fmt.Sprintf("%s%d.%s%s", a.prefix, a.next-a.skip, part, tensor)
	a.want(checkpoint.Want{Name: name, Shape: shape, Aliases: []string{fmt.Sprintf("%d.%s%s", a.next, part, tensor)}})
	return name
}

func (a *taesd) relu(x onnx.Value) onnx.Value { return a.Op("Relu", []onnx.Value{x}) }

// IsTAESD reports whether a checkpoint looks like TAESD, or a half of it, in either layout.
func IsTAESD(f *checkpoint.File) bool {
	for _, name := range []string{"encoder.layers.0.weight", "decoder.layers.0.weight", "1.conv.0.weight", "3.conv.0.weight"} {
		if f.Tensor(name) != nil {
			return true
		}
	}
	return false
}

// DetectTAESD returns the topology of a checkpoint and checks all tensors. TAESD's
// relative for SDXL has the same tensors, but other latents.
func DetectTAESD(f *checkpoint.File) (TAESDConfig, error) {
	s := shapes{f}
	var c TAESDConfig
	const last = taesdStages*(taesdBlocks+2) + 4 // of the decoder's layers in the original
	for _, names := range [][4]string{
		{"encoder.layers.0.weight", "encoder.layers.14.weight", "decoder.layers.0.weight", fmt.Sprintf("decoder.layers.%d.weight", last-1)},
		{"0.weight", "14.weight", "1.weight", fmt.Sprintf("%d.weight", last)},
	} {
		if s.dim(names[0], 1) == 3 {
			c.Encoder, c.Width, c.Latent = true, s.dim(names[0], 0), s.dim(names[1], 0)
		}
		if s.dim(names[3], 0) == 3 {
			c.Decoder, c.Width, c.Latent = true, s.dim(names[2], 0), s.dim(names[2], 1)
		}
	}
	const hint = "use diffusion_pytorch_model.safetensors, or taesd_encoder.safetensors and taesd_decoder.safetensors, of madebyollin/taesd"
	switch {
	case s.Tensor("encoder.conv_in.weight") != nil || s.Tensor("decoder.conv_in.weight") != nil:
		return c, fault.Input.New("read the checkpoint "+f.Path(), "it is a full VAE, not TAESD", hint)
	case c.Width == 0 || c.Latent == 0:
		return c, errOther(f, "TAESD", hint)
	case c.Latent != PublishedTAESD().Latent:
		return c, fault.Input.New("read the checkpoint "+f.Path(),
			fmt.Sprintf("it is the tiny autoencoder of another model: its latents have %d channels, and those of Stable Diffusion 1 have %d", c.Latent, PublishedTAESD().Latent), hint)
	}
	return c, f.Check("TAESD", TAESDWants(c), nil)
}
