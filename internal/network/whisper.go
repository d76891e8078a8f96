package network

import (
	"fmt"
	"strings"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/onnx"
)

// WhisperConfig is the topology of a Whisper encoder.
type WhisperConfig struct {
	Mels    int // rows of the log-mel: 80
	Context int // positions, each of two columns of the log-mel: 1500
	State   int // width: 384 for tiny
	Heads   int
	Layers  int // 4 for tiny
	// Normalized reports whether the last of a position's features is normalised, as
	// MuseTalk's is (docs/spec/musetalk.md, section 3.3) and LatentSync's is not.
	Normalized bool
}

// Tokens returns the number of vectors of State numbers that describe a frame of the
// video: the features of ten positions (docs/spec/latentsync.md, section 2.5).
func (c WhisperConfig) Tokens() int { return 10 * c.Features() }

// PublishedWhisper returns the topology of the encoder of Whisper tiny.
func PublishedWhisper() WhisperConfig {
	return WhisperConfig{Mels: 80, Context: 1500, State: 384, Heads: 6, Layers: 4}
}

// Features returns the number of vectors of State numbers that describe a position: the
// input of the first block and the output of each block (docs/spec/latentsync.md,
// section 2.4), the last one normalised if Normalized.
func (c WhisperConfig) Features() int { return c.Layers + 1 }

// WhisperWants lists the tensors that the encoder takes from a checkpoint of this
// topology.
func WhisperWants(c WhisperConfig) []checkpoint.Want {
	b := newBuilder("", nil, Target{})
	_ = whisper(c, b) // without weights nothing can be missing
	return b.wanted.list
}

// transformersNames maps OpenAI's names to those of Hugging Face's transformers
// (docs/spec/musetalk.md, section 2.5).
var transformersNames = strings.NewReplacer(
	".positional_embedding", ".embed_positions.weight",
	".blocks.", ".layers.",
	".attn.query.", ".self_attn.q_proj.", ".attn.key.", ".self_attn.k_proj.",
	".attn.value.", ".self_attn.v_proj.", ".attn.out.", ".self_attn.out_proj.",
	".attn_ln.", ".self_attn_layer_norm.", ".mlp.0.", ".fc1.", ".mlp.2.", ".fc2.", ".mlp_ln.", ".final_layer_norm.",
	".ln_post.", ".layer_norm.",
)

// whisperAliases returns the names of a tensor in transformers' layout: of a whole model,
// and of an encoder alone.
func whisperAliases(name string) []string {
	name = transformersNames.Replace(name)
	return []string{"model." + name, name}
}

// WhisperExtra reports whether a tensor belongs to a part of Whisper that an engine may
// not use: the decoder, or the encoder's last normalisation.
func WhisperExtra(name string) bool {
	name = strings.TrimPrefix(name, "model.")
	return strings.HasPrefix(name, "decoder.") || name == "proj_out.weight" ||
		strings.HasPrefix(name, "encoder.ln_post.") || strings.HasPrefix(name, "encoder.layer_norm.")
}

// Whisper returns the graph of the encoder, from "mel" (1, Mels, 2·Context), a normalised
// log-mel, to "features" (Context, Features, State).
func Whisper(c WhisperConfig, w *checkpoint.File, t Target) (*onnx.Graph, error) {
	b := newBuilder("whisper encoder", w, t)
	return b.Graph, whisper(c, b)
}

func whisper(c WhisperConfig, b *builder) error {
	b.aliases = whisperAliases
	x := b.input("mel", 1, c.Mels, 2*c.Context)
	conv := func(x onnx.Value, name string, in int, stride int64) onnx.Value {
		y := b.Op("Conv", []onnx.Value{x, b.weight(name+".weight", c.State, in, 3), b.weight(name+".bias", c.State)},
			onnx.Ints("kernel_shape", 3), onnx.Ints("strides", stride), onnx.Ints("pads", 1, 1))
		return b.gelu(y)
	}
	x = conv(conv(x, "encoder.conv1", c.Mels, 1), "encoder.conv2", c.State, 2)
	x = b.reshape(b.transpose(x, 0, 2, 1), c.Context, c.State)
	x = b.add(x, b.weight("encoder.positional_embedding", c.Context, c.State))
	kept := []onnx.Value{x}
	for i := range c.Layers {
		name := fmt.Sprintf("encoder.blocks.%d", i)
		y := b.layerNorm(x, name+".attn_ln", c.State)
		q, v := b.linear(y, name+".attn.query", c.State, c.State), b.linear(y, name+".attn.value", c.State, c.State)
		k := b.unbiased(y, name+".attn.key", c.State, c.State)
		y = b.attention(q, k, v, 1, c.Context, c.Context, c.Heads, c.State)
		x = b.add(x, b.linear(y, name+".attn.out", c.State, c.State))
		y = b.layerNorm(x, name+".mlp_ln", c.State)
		y = b.gelu(b.linear(y, name+".mlp.0", c.State, 4*c.State))
		x = b.add(x, b.linear(y, name+".mlp.2", 4*c.State, c.State))
		kept = append(kept, x)
	}
	if c.Normalized {
		kept[c.Layers] = b.layerNorm(x, "encoder.ln_post", c.State)
	}
	for i, v := range kept {
		kept[i] = b.reshape(v, c.Context, 1, c.State)
	}
	b.output("features", b.Op("Concat", kept, onnx.Int("axis", 1)), c.Context, c.Features(), c.State)
	return b.err
}
