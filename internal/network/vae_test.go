package network

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/checkpoint"
)

// TestVAENames has names of vae-ft-mse-840000-ema-pruned.safetensors and what diffusers
// calls them (its scripts/convert_diffusers_to_original_stable_diffusion.py).
func TestVAENames(t *testing.T) {
	for name, want := range map[string]string{
		"encoder.conv_in.weight":                             "encoder.conv_in.weight",
		"encoder.down_blocks.1.resnets.0.conv1.weight":       "encoder.down.1.block.0.conv1.weight",
		"encoder.down_blocks.2.resnets.0.conv_shortcut.bias": "encoder.down.2.block.0.nin_shortcut.bias",
		"encoder.down_blocks.0.downsamplers.0.conv.weight":   "encoder.down.0.downsample.conv.weight",
		"encoder.mid_block.resnets.0.norm1.weight":           "encoder.mid.block_1.norm1.weight",
		"encoder.mid_block.resnets.1.conv2.bias":             "encoder.mid.block_2.conv2.bias",
		"encoder.mid_block.attentions.0.group_norm.weight":   "encoder.mid.attn_1.norm.weight",
		"encoder.mid_block.attentions.0.to_q.weight":         "encoder.mid.attn_1.q.weight",
		"encoder.mid_block.attentions.0.to_k.bias":           "encoder.mid.attn_1.k.bias",
		"decoder.mid_block.attentions.0.to_v.weight":         "decoder.mid.attn_1.v.weight",
		"decoder.mid_block.attentions.0.to_out.0.weight":     "decoder.mid.attn_1.proj_out.weight",
		"encoder.conv_norm_out.bias":                         "encoder.norm_out.bias",
		"decoder.up_blocks.0.resnets.2.conv1.weight":         "decoder.up.3.block.2.conv1.weight",
		"decoder.up_blocks.2.resnets.0.conv_shortcut.weight": "decoder.up.1.block.0.nin_shortcut.weight",
		"decoder.up_blocks.2.upsamplers.0.conv.bias":         "decoder.up.1.upsample.conv.bias",
		"decoder.conv_norm_out.weight":                       "decoder.norm_out.weight",
		"post_quant_conv.weight":                             "post_quant_conv.weight",
	} {
		if got := PublishedVAE().otherNames(name); !slices.Contains(got, want) {
			t.Errorf("%s is called %q, want %s", name, got, want)
		}
	}
}

// original writes a VAE as vae-ft-mse-840000-ema-pruned.safetensors is written, and opens
// it: with other names and shapes, two tensors of training, and a header that does not
// align the data.
func original(t *testing.T, weights *checkpoint.File, config VAEConfig) *checkpoint.File {
	t.Helper()
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	add := func(name, dtype string, shape []int, values []byte) {
		header[name] = map[string]any{"dtype": dtype, "shape": shape, "data_offsets": []int{len(data), len(data) + len(values)}}
		data = append(data, values...)
	}
	for _, w := range VAEWants(config) {
		name, _ := weights.Find(w)
		shape := w.Shape
		if len(w.AnyShape) > 0 {
			shape = w.AnyShape[0]
		}
		add(w.Aliases[len(w.Aliases)-1], "F32", shape, weights.Tensor(name).Data)
	}
	add("model_ema.decay", "F32", []int{}, make([]byte, 4))
	add("model_ema.num_updates", "I32", []int{}, make([]byte, 4))
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	for len(text)%4 != 2 {
		text = append(text, ' ')
	}
	path := filepath.Join(t.TempDir(), "vae-ft-mse-840000-ema-pruned.safetensors")
	if err := os.WriteFile(path, slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestVAEOriginal compares the network in the original's layout with that of diffusers.
func TestVAEOriginal(t *testing.T) {
	weights, io := open(t, "models/vae/diffusion_pytorch_model.safetensors"), open(t, "vae_f8/io.safetensors")
	want, err := DetectVAE(weights)
	if err != nil {
		t.Fatal(err)
	}
	renamed := original(t, weights, want)
	config, err := DetectVAE(renamed)
	if err != nil || !slices.Equal(config.Channels, want.Channels) || config.Layers != want.Layers || config.Latent != want.Latent {
		t.Fatalf("%+v, want %+v; %v", config, want, err)
	}
	for _, w := range VAEWants(config) {
		name, _ := renamed.Find(w)
		was, _ := weights.Find(w)
		if !slices.Contains(w.Aliases, name) || !bytes.Equal(renamed.Tensor(name).Data, weights.Tensor(was).Data) {
			t.Errorf("%s is %q, or has other values", w.Name, name)
		}
	}
	if testing.Short() {
		return
	}
	onTargets(t, func(t *testing.T, on sharedtest.Target, to Target) {
		flow, back := coded(t, on, to, config, renamed, io, "h64_w64")
		on.Check(t, "VAE mean", "original's layout", flow["mean"].F32(), goldenOf(t, io, "h64_w64.mean").F32(), 1e-4)
		on.Check(t, "VAE decoded", "original's layout", back["image"].F32(), goldenOf(t, io, "h64_w64.decoded").F32(), 1e-4)
	})
}
