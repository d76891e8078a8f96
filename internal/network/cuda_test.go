package network

import (
	"fmt"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/tensor"
)

// forCUDA returns the target of an NVIDIA GPU.
func forCUDA(compute tensor.DType) Target {
	return For(onnxruntime.Name, backend.Device{ID: "cuda:0", Resident: true, ChannelsLast: true}, compute)
}

// TestDialects: only sessions of ONNX Runtime itself get its operators, not its plugins.
func TestDialects(t *testing.T) {
	for _, c := range []struct {
		backend string
		device  backend.Device
		want    Dialect
	}{
		{"openvino", backend.Device{ID: "cpu"}, OpenVINO},
		{"openvino", backend.Device{ID: "gpu:0"}, Plain},
		{onnxruntime.Name, backend.Device{ID: "cpu"}, Microsoft},
		{onnxruntime.Name, backend.Device{ID: "cuda:1"}, Microsoft},
		{onnxruntime.Name, backend.Device{ID: "cuda:1", ChannelsLast: true}, CUDA},
		{onnxruntime.Name, backend.Device{ID: "webgpu:0"}, Plain},
		{onnxruntime.Name, backend.Device{ID: "tensorrt-rtx:1"}, Plain},
	} {
		if got := For(c.backend, c.device, tensor.F16).Dialect; got != c.want {
			t.Errorf("%s, %s: %s instead of %s", c.backend, c.device.ID, got, c.want)
		}
	}
}

// openLowered opens ONNX Runtime for the CPU, with what it has for CUDA alone replaced by
// plain operators.
func openLowered(t *testing.T) backend.Backend {
	t.Helper()
	return backendtest.Lowered{Backend: openBackend(t, onnxruntime.Name)}
}

// TestCUDAGolden compares the networks in the dialect for CUDA with the original, within the
// tolerances of the other dialects.
func TestCUDAGolden(t *testing.T) {
	b := openLowered(t)
	check := func(module, name string, got, want []float32, limit float64) {
		golden.Check(t, golden.Measurement{Module: module, Case: name, Backend: b.Name(), Precision: "f32, channels last",
			Measure: "max abs", Value: golden.MaxAbs(got, want), Limit: limit})
	}
	unet, io := open(t, "models/latentsync_unet.pt"), open(t, "unet/io.safetensors")
	for _, c := range []struct {
		f, batch int
		timestep float64
	}{{1, 1, 951}, {8, 2, 501}, {16, 1, 1}} {
		u, err := NewUNet(tinyUNet(), UNetShape{Batch: c.batch, Frames: c.f, Latent: 16, Tokens: 50}, unet, forCUDA(tensor.F32))
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("f%d_hw16", c.f)
		x, audio := swap(goldenOf(t, io, name+".sample"), 2, 13, c.f).F32(), goldenOf(t, io, name+".audio").F32()
		x = x[(2-c.batch)*len(x)/2:] // the second item alone, or both
		flow := Flow{
			"sample": tensor.FromF32(x, c.batch*c.f, 13, 16, 16), "time": TimeEmbedding(c.timestep, 32),
			"audio": tensor.FromF32(append(make([]float32, (c.batch-1)*len(audio)), audio...), c.batch*c.f, 50, 64),
		}
		runAll(t, b, flow, u.Graphs...)
		want := swap(goldenOf(t, io, fmt.Sprintf("b%d_%s.out", c.batch, name)), c.batch, 4, c.f)
		check("UNet", fmt.Sprintf("batch %d, %d frames, 16x16", c.batch, c.f), flow["noise"].F32(), want.F32(), 2e-4)
	}

	weights, io := open(t, "models/vae/diffusion_pytorch_model.safetensors"), open(t, "vae_f8/io.safetensors")
	vae, err := DetectVAE(weights)
	if err != nil {
		t.Fatal(err)
	}
	image, mean := goldenOf(t, io, "h64_w64.image"), goldenOf(t, io, "h64_w64.mean")
	coders := coders(t, vae, image.Shape[0], mean.Shape[2], weights, forCUDA(tensor.F32))
	flow := Flow{"image": image, "latents": mean}
	runAll(t, b, flow, coders...)
	for output, want := range map[string]string{"mean": "mean", "logvar": "logvar", "image": "decoded"} {
		check("VAE "+want, "f8 h64_w64", flow[output].F32(), goldenOf(t, io, "h64_w64."+want).F32(), 1e-4)
	}

	weights, io = open(t, "models/whisper/tiny.pt"), open(t, "audio/speech.safetensors")
	whisper, err := DetectWhisper(weights)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Whisper(whisper, weights, forCUDA(tensor.F32))
	if err != nil {
		t.Fatal(err)
	}
	flow, want := Flow{"mel": paddedMel(t, goldenOf(t, io, "logmel"), whisper)}, goldenOf(t, io, "features").F32()
	runAll(t, b, flow, g)
	check("Whisper", "3 s, features", flow["features"].F32()[:len(want)], want, 1e-4)
}

// TestCUDAHalf measures the error of the networks in f16 throughout.
func TestCUDAHalf(t *testing.T) {
	halfPrecision(t, openLowered(t), "f16, channels last", forCUDA(tensor.F16), backend.Options{Device: "cpu", Threads: 1}, 40)
}
