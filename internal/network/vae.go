package network

import (
	"fmt"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
)

// VAEScale is the factor by which latents are multiplied after encoding and divided
// before decoding (docs/spec/latentsync.md, section 5). The graphs do neither.
const VAEScale = 0.18215

// VAEConfig is the topology of an AutoencoderKL.
type VAEConfig struct {
	Channels []int // of each level; published: 128, 256, 512, 512
	Layers   int   // resnets per down block; up blocks have one more
	Latent   int   // channels of the latents: 4
}

// PublishedVAE returns the topology of stabilityai/sd-vae-ft-mse.
func PublishedVAE() VAEConfig {
	return VAEConfig{Channels: []int{128, 256, 512, 512}, Layers: 2, Latent: 4}
}

// Factor returns the side of an image divided by the side of its latents.
func (c VAEConfig) Factor() int { return 1 << (len(c.Channels) - 1) }

// VAEWants lists the tensors of a checkpoint of this topology.
func VAEWants(c VAEConfig) []checkpoint.Want {
	v := newVAE("", c, nil, Target{})
	v.encoder(stack{1, 3, c.Factor(), c.Factor()})
	v.decoder(stack{1, c.Latent, 1, 1})
	return v.wanted.list
}

// VAEEncoder returns the graph from "image" (n, 3, height, width), -1..1, to "mean" and
// "logvar" (n, Latent, height/Factor, width/Factor) of the posterior. logvar lies within
// -30..20.
func VAEEncoder(c VAEConfig, n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
	if err := checkSize(c.Factor(), height, width); err != nil {
		return nil, err
	}
	v := newVAE("vae encoder", c, w, t)
	v.encodes = true
	v.encoder(stack{n, 3, height, width})
	return v.Graph, v.err
}

// VAEDecoder returns the graph from "latents" (n, Latent, height, width) to "image"
// (n, 3, Factor·height, Factor·width), about -1..1, not clamped.
func VAEDecoder(c VAEConfig, n, height, width int, w *checkpoint.File, t Target) (*onnx.Graph, error) {
	v := newVAE("vae decoder", c, w, t)
	v.decoder(stack{n, c.Latent, height, width})
	return v.Graph, v.err
}

type vae struct {
	VAEConfig
	*builder
}

func newVAE(name string, c VAEConfig, w *checkpoint.File, t Target) *vae {
	v := &vae{VAEConfig: c, builder: newBuilder(name, w, t)}
	v.builder.aliases = c.otherNames
	return v
}

// vaeOriginal has the original's words for those of diffusers. In the original, as in
// vae-ft-mse-840000-ema-pruned.safetensors, the levels of the decoder are counted from
// the last one.
var vaeOriginal = strings.NewReplacer(
	".down_blocks.", ".down.", ".up_blocks.", ".up.", ".resnets.", ".block.",
	".downsamplers.0.", ".downsample.", ".upsamplers.0.", ".upsample.", ".conv_shortcut.", ".nin_shortcut.",
	".mid_block.resnets.0.", ".mid.block_1.", ".mid_block.resnets.1.", ".mid.block_2.", ".mid_block.attentions.0.", ".mid.attn_1.",
	"group_norm.", "norm.", "to_q.", "q.", "to_k.", "k.", "to_v.", "v.", "to_out.0.", "proj_out.", ".conv_norm_out.", ".norm_out.",
)

// vaeOlder has the words of older versions of diffusers.
var vaeOlder = strings.NewReplacer("to_q.", "query.", "to_k.", "key.", "to_v.", "value.", "to_out.0.", "proj_attn.")

// otherNames returns the names of a tensor in older versions of diffusers, and in the
// original.
func (c VAEConfig) otherNames(name string) []string {
	original := name
	for i := range c.Channels {
		if rest, ok := strings.CutPrefix(name, fmt.Sprintf("decoder.up_blocks.%d.", i)); ok {
			original = fmt.Sprintf("decoder.up_blocks.%d.", len(c.Channels)-1-i) + rest
		}
	}
	return []string{vaeOlder.Replace(name), vaeOriginal.Replace(original)}
}

func (v *vae) encoder(m stack) {
	x := v.inputMaps("image", m)
	x = v.conv3(x, "encoder.conv_in", m.c, v.Channels[0])
	m.c = v.Channels[0]
	for i, c := range v.Channels {
		block := fmt.Sprintf("encoder.down_blocks.%d", i)
		for j := range v.Layers {
			x, m = v.resnet(x, m, fmt.Sprintf("%s.resnets.%d", block, j), c)
		}
		if i < len(v.Channels)-1 {
			x = v.halve(x, block+".downsamplers.0.conv", c) // docs/spec/latentsync.md, section 5.1
			m.h, m.w = m.h/2, m.w/2
		}
	}
	x = v.middle(x, m, "encoder.mid_block")
	x = v.groupNormSiLU(x, "encoder.conv_norm_out", m, 1, epsVAE)
	x = v.conv3(x, "encoder.conv_out", m.c, 2*v.Latent)
	x = v.conv(x, "quant_conv", 2*v.Latent, 2*v.Latent, 1, 1, 0, 0, 0, 0)
	logvar := v.Op("Clip", []onnx.Value{v.someChannels(x, v.Latent, 2*v.Latent), v.constant([]float32{-30}), v.constant([]float32{20})})
	m.c = v.Latent
	v.outputMaps("mean", v.someChannels(x, 0, v.Latent), m)
	v.outputMaps("logvar", logvar, m)
}

func (v *vae) decoder(m stack) {
	last := len(v.Channels) - 1
	x := v.inputMaps("latents", m)
	x = v.conv(x, "post_quant_conv", m.c, m.c, 1, 1, 0, 0, 0, 0)
	x = v.conv3(x, "decoder.conv_in", m.c, v.Channels[last])
	m.c = v.Channels[last]
	x = v.middle(x, m, "decoder.mid_block")
	for i := range v.Channels {
		block, c := fmt.Sprintf("decoder.up_blocks.%d", i), v.Channels[last-i]
		for j := range v.Layers + 1 {
			x, m = v.resnet(x, m, fmt.Sprintf("%s.resnets.%d", block, j), c)
		}
		if i < last {
			conv := block + ".upsamplers.0.conv"
			v.wantLayer(conv, []int{c, c, 3, 3})
			x = v.doubleConv3(x, conv+".weight", v.rows(v.Compute, conv+".bias", 0, c, c), c)
			m.h, m.w = 2*m.h, 2*m.w
		}
	}
	x = v.groupNormSiLU(x, "decoder.conv_norm_out", m, 1, epsVAE)
	v.outputMaps("image", v.conv3(x, "decoder.conv_out", m.c, 3), stack{m.n, 3, m.h, m.w})
}

func (v *vae) middle(x onnx.Value, m stack, name string) onnx.Value {
	x, _ = v.resnet(x, m, name+".resnets.0", m.c)
	x = v.attend(x, m, name+".attentions.0")
	x, _ = v.resnet(x, m, name+".resnets.1", m.c)
	return x
}

// attend builds self-attention with one head over all pixels (docs/spec/latentsync.md,
// section 5.3).
func (v *vae) attend(x onnx.Value, m stack, name string) onnx.Value {
	y := v.toTokens(v.groupNorm(x, name+".group_norm", m, 1, epsVAE), m)
	linear := func(x onnx.Value, key string) onnx.Value {
		v.wantLayer(name+key, []int{m.c, m.c}, []int{m.c, m.c, 1, 1})
		return v.gemm(x, name+key, true, m.c, 0, m.c, m.c)
	}
	q, k, val := linear(y, ".to_q"), linear(y, ".to_k"), linear(y, ".to_v")
	y = v.attention(q, k, val, m.n, m.h*m.w, m.h*m.w, 1, m.c)
	return v.add(x, v.toMaps(linear(y, ".to_out.0"), m))
}

func (v *vae) resnet(x onnx.Value, m stack, name string, c int) (onnx.Value, stack) {
	in := m.c
	y := v.conv3(v.groupNormSiLU(x, name+".norm1", m, 1, epsVAE), name+".conv1", in, c)
	m.c = c
	y = v.conv3(v.groupNormSiLU(y, name+".norm2", m, 1, epsVAE), name+".conv2", c, c)
	if in != c {
		x = v.conv(x, name+".conv_shortcut", in, c, 1, 1, 0, 0, 0, 0)
	}
	return v.add(x, y), m
}
