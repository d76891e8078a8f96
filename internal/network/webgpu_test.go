package network

import (
	"context"
	"os"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/gputest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// onWebGPU are the options of a session on a GPU in software. Its profile names what has
// run each node.
var onWebGPU = backend.Options{Device: "webgpu:0", Precision: backend.F32, Threads: 1, Profile: true}

func openWebGPU(t *testing.T) backend.Backend {
	t.Helper()
	backendtest.SkipShort(t)
	plugin := gputest.SwiftShader(t)
	b, err := onnxruntime.Open(context.WithoutCancel(t.Context()), backendtest.Library(t, onnxruntime.Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	b.Register(plugin.Runtime, plugin.Path, plugin.Needed...)
	return b
}

// runOnGPU loads and runs a graph, keeps its outputs on the GPU, and checks that all of its
// nodes have run there.
func runOnGPU(t *testing.T, b backend.Backend, g *onnx.Graph, in map[string]backend.Value) map[string]backend.Value {
	t.Helper()
	s, err := b.Load(t.Context(), backend.Model{Name: g.Name(), Graph: g}, onWebGPU)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	own := map[string]backend.Value{}
	for _, p := range s.Inputs() {
		own[p.Name] = in[p.Name]
	}
	out, err := s.RunValues(t.Context(), own, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range out {
		t.Cleanup(func() { _ = v.Close() })
		if _, ok := backend.HostTensor(v); ok {
			t.Errorf("%s: the output %s has left the GPU", g.Name(), name)
		}
	}
	nodes, err := s.(backend.Profiler).Nodes()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Provider != "WebGpuExecutionProvider" {
			t.Errorf("%s: the %s %s ran on %s", g.Name(), n.Type, n.Name, n.Provider)
		}
	}
	t.Logf("%s: %d nodes", g.Name(), len(nodes))
	return out
}

func checkWebGPU(t *testing.T, module, name string, got backend.Value, want *tensor.Tensor, limit float64) {
	t.Helper()
	host, err := got.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, golden.Measurement{Module: module, Case: name, Backend: "webgpu", Precision: "f32",
		Measure: "max abs", Value: golden.MaxAbs(host.F32(), want.F32()), Limit: limit})
}

// TestWebGPUVAE decodes what it has encoded, without copying it from the GPU between. The
// tolerance is that of TestVAEGolden, twice for both.
func TestWebGPUVAE(t *testing.T) {
	b := openWebGPU(t)
	weights, io := open(t, "models/vae/diffusion_pytorch_model.safetensors"), open(t, "vae_f8/io.safetensors")
	config, err := DetectVAE(weights)
	if err != nil {
		t.Fatal(err)
	}
	first := func(name string) *tensor.Tensor { // of two images: SwiftShader is slow
		all := goldenOf(t, io, "h64_w64."+name)
		v := tensor.FromF32(all.F32()[:all.Len()/2], all.Len()/2)
		v.Shape = append([]int{1}, all.Shape[1:]...)
		return v
	}
	image, mean := first("image"), first("mean")
	to := For(b.Name(), backend.Device{ID: onWebGPU.Device}, tensor.F32)
	encoder, err := VAEEncoder(config, image.Shape[0], image.Shape[2], image.Shape[3], weights, to)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := VAEDecoder(config, mean.Shape[0], mean.Shape[2], mean.Shape[3], weights, to)
	if err != nil {
		t.Fatal(err)
	}
	encoded := runOnGPU(t, b, encoder, map[string]backend.Value{"image": backend.InHost(image)})
	decoded := runOnGPU(t, b, decoder, map[string]backend.Value{"latents": encoded["mean"]})
	checkWebGPU(t, "VAE mean", "f8 h64_w64", encoded["mean"], mean, 1e-4)
	checkWebGPU(t, "VAE decoded", "f8 h64_w64", decoded["image"], first("decoded"), 2e-4)
}

// TestWebGPUUNet runs the seven graphs of the tiny UNet. Compiling their programs takes
// a minute, so it is a long test.
func TestWebGPUUNet(t *testing.T) {
	if os.Getenv(backendtest.LongVariable) == "" {
		t.Skip("only with " + backendtest.LongVariable)
	}
	b := openWebGPU(t)
	weights, io := open(t, "models/latentsync_unet.pt"), open(t, "unet/io.safetensors")
	u, err := NewUNet(tinyUNet(), UNetShape{Batch: 1, Frames: 1, Latent: 16, Tokens: 50}, weights, For(b.Name(), backend.Device{ID: onWebGPU.Device}, tensor.F32))
	if err != nil {
		t.Fatal(err)
	}
	x := swap(goldenOf(t, io, "f1_hw16.sample"), 2, 13, 1)
	flow := backend.Values(map[string]*tensor.Tensor{
		"sample": tensor.FromF32(x.F32()[x.Len()/2:], 1, 13, 16, 16), "time": TimeEmbedding(951, 32),
		"audio": tensor.FromF32(goldenOf(t, io, "f1_hw16.audio").F32(), 1, 50, 64),
	})
	for _, g := range u.Graphs {
		for name, v := range runOnGPU(t, b, g, flow) {
			flow[name] = v
		}
	}
	checkWebGPU(t, "UNet", "batch 1, 1 frames, 16x16", flow["noise"], swap(goldenOf(t, io, "b1_f1_hw16.out"), 1, 4, 1), 2e-4)
}
