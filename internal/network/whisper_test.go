package network

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/golden"
)

// readKeys reads the names and shapes of a checkpoint from a JSON file of testdata.
func readKeys(t *testing.T, path string) map[string][]int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldens, path))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string][]int
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestMuseTalkWhisperGolden compares with transformers within 1e-4. The features reach 5.8.
func TestMuseTalkWhisperGolden(t *testing.T) {
	weights, io := open(t, "models/whisper/tiny.pt"), open(t, "../musetalk/audio/speech.safetensors")
	config, err := DetectMuseTalkWhisper(weights)
	if err != nil {
		t.Fatal(err)
	}
	logmel, want := goldenOf(t, io, "logmel"), goldenOf(t, io, "hidden")
	mel, columns := paddedMel(t, logmel, config), logmel.Shape[1]
	for row := range config.Mels {
		for i := columns; i < 2*config.Context; i++ {
			mel.F32()[row*2*config.Context+i] = logmel.F32()[(row+1)*columns-1] // of the padding
		}
	}
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		g, err := Whisper(config, weights, to)
		if err != nil {
			t.Fatal(err)
		}
		flow := Flow{"mel": mel}
		runAll(t, b, flow, g)
		golden.Check(t, golden.Measurement{Module: "Whisper of MuseTalk", Case: "3 s, features", Backend: b.Name(), Precision: "f32",
			Measure: "max abs", Value: golden.MaxAbs(flow["features"].F32()[:want.Len()], want.F32()), Limit: 1e-4})
	})
}

// TestTransformersWhisper checks that each tensor is found under its name in transformers
// (docs/spec/musetalk.md, section 2.5), in a whole model and in an encoder alone.
func TestTransformersWhisper(t *testing.T) {
	keys := readKeys(t, "../musetalk/whisper/keys.json")
	for _, alone := range []bool{false, true} {
		var list []checkpoint.Want
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			inEncoder, ok := strings.CutPrefix(name, "model.encoder.")
			switch {
			case !alone:
				list = append(list, checkpoint.Want{Name: name, Shape: keys[name]})
			case ok:
				list = append(list, checkpoint.Want{Name: "encoder." + inEncoder, Shape: keys[name]})
			}
		}
		f := randomWeights(t, list)
		config := filepath.Join(filepath.Dir(f.Path()), "config.json")
		if err := os.WriteFile(config, []byte(`{"d_model": 64, "encoder_attention_heads": 2}`), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := DetectMuseTalkWhisper(f)
		want := WhisperConfig{Mels: 80, Context: 1500, State: 64, Heads: 2, Layers: 4, Normalized: true}
		if err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
		names := map[string]string{}
		for _, w := range WhisperWants(got) {
			name, found := f.Find(w)
			if found == nil {
				t.Errorf("there is no %s", w.Name)
			}
			names[w.Name] = strings.TrimPrefix(name, "model.")
		}
		for openAI, theirs := range map[string]string{
			"encoder.conv1.weight": "conv1.weight", "encoder.conv2.bias": "conv2.bias",
			"encoder.positional_embedding":       "embed_positions.weight",
			"encoder.blocks.0.attn.query.bias":   "layers.0.self_attn.q_proj.bias",
			"encoder.blocks.1.attn.key.weight":   "layers.1.self_attn.k_proj.weight",
			"encoder.blocks.2.attn.value.weight": "layers.2.self_attn.v_proj.weight",
			"encoder.blocks.3.attn.out.weight":   "layers.3.self_attn.out_proj.weight",
			"encoder.blocks.0.attn_ln.weight":    "layers.0.self_attn_layer_norm.weight",
			"encoder.blocks.1.mlp.0.weight":      "layers.1.fc1.weight",
			"encoder.blocks.2.mlp.2.bias":        "layers.2.fc2.bias",
			"encoder.blocks.3.mlp_ln.weight":     "layers.3.final_layer_norm.weight",
			"encoder.ln_post.weight":             "layer_norm.weight",
		} {
			if names[openAI] != "encoder."+theirs {
				t.Errorf("%s is taken from %s, want %s", openAI, names[openAI], theirs)
			}
		}
		if _, err := DetectWhisper(f); err != nil {
			t.Errorf("LatentSync: %v", err)
		}
	}
}
