package network

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestSizes checks that in every dialect the shapes that follow from the operators are
// those that the graphs declare, and that working takes at least what comes out.
func TestSizes(t *testing.T) {
	cpu := For("onnxruntime", backend.Device{ID: "cpu"}, tensor.F32)
	for name, target := range map[string]Target{
		"plain": {}, "microsoft": cpu, "slices": {Slices: 2},
		"webgpu": For("onnxruntime", backend.Device{ID: "webgpu:0", Resident: true}, tensor.F16),
		"cuda":   For("onnxruntime", backend.Device{ID: "cuda:0", Resident: true, ChannelsLast: true}, tensor.F16),
	} {
		t.Run(name, func(t *testing.T) {
			c := Published()
			u, err := NewUNet(c, UNetShape{Batch: 2, Frames: 4, Latent: 32, Tokens: 50}, nil, target)
			if err != nil {
				t.Fatal(err)
			}
			passed := 0
			for i, g := range u.Graphs {
				for _, out := range g.OutputNames() {
					for _, later := range u.Graphs[i+1:] {
						if !later.Reads(out) {
							continue
						}
						passed++
						if got, want := g.Size(out), later.Size(out); got != want {
							t.Errorf("%s of %s has %d bytes, and %s takes %d", out, g.Name(), got, later.Name(), want)
						}
					}
				}
				check(t, g)
			}
			if passed < 12 {
				t.Errorf("%d tensors pass between graphs", passed)
			}
			last := u.Graphs[len(u.Graphs)-1]
			if got, want := last.Size("noise"), int64(4*2*4*c.Out*32*32); got != want {
				t.Errorf("the noise has %d bytes, want %d", got, want)
			}
			vae := PublishedVAE()
			encoder, err := VAEEncoder(vae, 2, 128, 128, nil, target)
			if err != nil {
				t.Fatal(err)
			}
			decoder, err := VAEDecoder(vae, 2, 16, 16, nil, target)
			if err != nil {
				t.Fatal(err)
			}
			whisper, err := Whisper(PublishedWhisper(), nil, target)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range []struct {
				g    *onnx.Graph
				name string
				want int64
			}{
				{encoder, "mean", 4 * 2 * 4 * 16 * 16}, {encoder, "logvar", 4 * 2 * 4 * 16 * 16}, {decoder, "image", 4 * 2 * 3 * 128 * 128},
				{whisper, "features", 4 * 1500 * 5 * 384},
			} {
				if got := o.g.Size(o.name); got != o.want {
					t.Errorf("%s has %d bytes, want %d", o.name, got, o.want)
				}
				check(t, o.g)
			}
		})
	}
}

// check checks that a graph has weights, and that it works in at least what comes out of
// it.
func check(t *testing.T, g *onnx.Graph) {
	t.Helper()
	var out int64
	for _, name := range g.OutputNames() {
		out += g.Size(name)
	}
	if got := Working(g, backend.Device{}); got < out {
		t.Errorf("%s works in %d bytes, and %d come out", g.Name(), got, out)
	}
	if g.Constants() <= 0 {
		t.Errorf("%s has no weights", g.Name())
	}
}
