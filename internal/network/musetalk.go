package network

import (
	"fmt"
	"math"
	"slices"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// PublishedMuseTalk returns the topology of MuseTalk 1.0 and 1.5.
func PublishedMuseTalk() UNetConfig {
	c := Published()
	c.In, c.Positions = 8, 0
	return c
}

// MuseTalkShape holds the sizes that MuseTalk's graphs are built for.
type MuseTalkShape struct {
	Frames        int // frames that are computed together, each by itself
	Height, Width int // of the latents: 32 for 256 pixels
	Tokens        int // audio tokens a frame: 50 with Whisper tiny
}

// MuseTalkUNet returns MuseTalk's UNet as a chain of graphs. A graph's inputs are outputs of
// graphs before it, or those of the network:
//
//	sample (Frames, In, Height, Width): scaled latents, those of the masked image first,
//	       then those of the reference
//	audio  (Frames, Tokens, AudioDim): features with the position code
//
// and the last graph's output "latents" is (Frames, Out, Height, Width): the predicted
// latents, scaled. There is no timestep, because MuseTalk's is always 0
// (docs/spec/musetalk.md, section 5.4). weights must have passed DetectMuseTalk.
func MuseTalkUNet(c UNetConfig, s MuseTalkShape, weights *checkpoint.File, t Target) ([]*onnx.Graph, error) {
	if factor := 1 << (len(c.Channels) - 1); s.Height%factor != 0 || s.Width%factor != 0 {
		return nil, fmt.Errorf("the latents are %d×%d, which are not multiples of %d", s.Width, s.Height, factor)
	}
	u := &unet{
		UNetConfig: c, UNetShape: UNetShape{Batch: s.Frames, Frames: 1, Tokens: s.Tokens},
		height: s.Height, width: s.Width, b: newBuilder("", weights, t),
	}
	return u.build()
}

// embed computes SiLU of the time embedding for timestep 0, which is constant.
func (u *unet) embed() {
	c, t := u.Channels[0], u.timeDim()
	e := silu(u.b.linearOf(TimeEmbedding(0, c).F32(), "time_embedding.linear_1", t))
	u.embedding = silu(u.b.linearOf(e, "time_embedding.linear_2", t))
}

// embeddedConv builds conv1 of a resnet. The embedding, which the original adds to its
// result, is part of the bias.
func (u *unet) embeddedConv(x onnx.Value, resnet string, in, out int) onnx.Value {
	b, name := u.b, resnet+".conv1"
	b.wantLayer(name, []int{out, in, 3, 3})
	w := b.rows(b.Compute, name+".weight", 0, out, out, in, 3, 3)
	bias := slices.Clone(b.values(name+".bias", out))
	for i, v := range b.linearOf(u.embedding, resnet+".time_emb_proj", out) {
		bias[i] += v
	}
	return b.convolve(x, w, b.as(b.Floats(bias, out), tensor.F32, b.Compute), 3, 1, 1, 1, 1, 1)
}

// values returns a wanted tensor in float32, or zeros if it is missing.
func (b *builder) values(name string, shape ...int) []float32 {
	if b.weights == nil {
		return make([]float32, tensor.Volume(shape))
	}
	key, found := b.weights.Find(b.wanted.byName[name])
	if found == nil || found.Len() != tensor.Volume(shape) {
		if b.err == nil {
			b.err = errShape(name, shape, found)
		}
		return make([]float32, tensor.Volume(shape))
	}
	if found.DType == tensor.I8 {
		return tensor.Dequantize(found, b.weights.Tensor(key+checkpoint.ScaleSuffix)).F32()
	}
	return found.ToF32().F32()
}

// linearOf computes a linear layer of one vector.
func (b *builder) linearOf(x []float32, name string, out int) []float32 {
	b.wantLayer(name, []int{out, len(x)})
	if b.weights == nil {
		return make([]float32, out)
	}
	w, y := b.values(name+".weight", out, len(x)), slices.Clone(b.values(name+".bias", out))
	for i := range y {
		sum := float64(y[i])
		for j, v := range x {
			sum += float64(v) * float64(w[i*len(x)+j])
		}
		y[i] = float32(sum)
	}
	return y
}

// silu applies SiLU to x and returns it.
func silu(x []float32) []float32 {
	for i, v := range x {
		x[i] = float32(float64(v) / (1 + math.Exp(-float64(v))))
	}
	return x
}
