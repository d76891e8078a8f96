package network

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestHalfPrecision measures the error of each network in half precision on the CPU; on a
// device the golden tests run in f16. The limits only catch gross errors: eight bits of
// mantissa allow about 40 dB.
func TestHalfPrecision(t *testing.T) {
	t.Run("bf16", func(t *testing.T) {
		b := openBackend(t, openvino.Name)
		halfPrecision(t, b, "bf16", For(b.Name(), backend.Device{ID: "cpu"}, tensor.BF16), backend.Options{Device: "cpu", Precision: backend.BF16, Threads: 1}, 25)
	})
	t.Run("f16", func(t *testing.T) {
		b := openBackend(t, onnxruntime.Name)
		halfPrecision(t, b, "f16", For(b.Name(), backend.Device{ID: "cpu"}, tensor.F16), backend.Options{Device: "cpu", Threads: 1}, 40)
	})
	// As on a GPU. The CPU has no such kernels: the runtime computes in f32 and rounds
	// after each operator.
	t.Run("f16 activations", func(t *testing.T) {
		b := openBackend(t, onnxruntime.Name)
		to := For(b.Name(), backend.Device{ID: "cpu"}, tensor.F16)
		to.Activations = tensor.F16
		halfPrecision(t, b, "f16 throughout", to, backend.Options{Device: "cpu", Threads: 1}, 40)
	})
}

func halfPrecision(t *testing.T, b backend.Backend, precision string, to Target, o backend.Options, limit float64) {
	run := func(flow Flow, graphs ...*onnx.Graph) Flow {
		runWith(t, b, o, flow, graphs...)
		return flow
	}
	check := func(module, name string, got, want *tensor.Tensor) {
		golden.Check(t, golden.Measurement{Module: module, Case: name, Backend: b.Name(), Precision: precision, Measure: golden.PSNR,
			Value: golden.Ratio(got.F32(), want.F32()), Limit: limit})
	}

	weights, io := open(t, "models/latentsync_unet.pt"), open(t, "unet/io.safetensors")
	u, err := NewUNet(tinyUNet(), UNetShape{Batch: 1, Frames: 16, Latent: 16, Tokens: 50}, weights, to)
	if err != nil {
		t.Fatal(err)
	}
	x := swap(goldenOf(t, io, "f16_hw16.sample"), 2, 13, 16)
	x = tensor.FromF32(x.F32()[x.Len()/2:], 16, 13, 16, 16)
	flow := run(Flow{"sample": x, "time": TimeEmbedding(1, 32), "audio": goldenOf(t, io, "f16_hw16.audio")}, u.Graphs...)
	check("UNet", "16 frames, 16x16", flow["noise"], swap(goldenOf(t, io, "b1_f16_hw16.out"), 1, 4, 16))

	weights, io = open(t, "models/vae/diffusion_pytorch_model.safetensors"), open(t, "vae_f8/io.safetensors")
	vae, err := DetectVAE(weights)
	if err != nil {
		t.Fatal(err)
	}
	g, err := VAEEncoder(vae, 2, 64, 64, weights, to)
	if err != nil {
		t.Fatal(err)
	}
	check("VAE encoder", "64x64, mean", run(Flow{"image": goldenOf(t, io, "h64_w64.image")}, g)["mean"], goldenOf(t, io, "h64_w64.mean"))
	if g, err = VAEDecoder(vae, 2, 8, 8, weights, to); err != nil {
		t.Fatal(err)
	}
	check("VAE decoder", "64x64", run(Flow{"latents": goldenOf(t, io, "h64_w64.mean")}, g)["image"], goldenOf(t, io, "h64_w64.decoded"))

	weights, io = open(t, "models/whisper/tiny.pt"), open(t, "audio/speech.safetensors")
	w, err := DetectWhisper(weights)
	if err != nil {
		t.Fatal(err)
	}
	if g, err = Whisper(w, weights, to); err != nil {
		t.Fatal(err)
	}
	want := goldenOf(t, io, "features")
	got := run(Flow{"mel": paddedMel(t, goldenOf(t, io, "logmel"), w)}, g)["features"]
	check("Whisper", "3 s, features", tensor.FromF32(got.F32()[:want.Len()], want.Shape...), want)

	museTalk, io := open(t, museTalkUNet), open(t, "../musetalk/unet/io.safetensors")
	c, err := DetectMuseTalk(museTalk)
	if err != nil {
		t.Fatal(err)
	}
	graphs, err := MuseTalkUNet(c, MuseTalkShape{Frames: 3, Height: 16, Width: 16, Tokens: 50}, museTalk, to)
	if err != nil {
		t.Fatal(err)
	}
	flow = run(Flow{"sample": goldenOf(t, io, "b3_16x16.sample"), "audio": goldenOf(t, io, "b3_16x16.audio")}, graphs...)
	check("UNet of MuseTalk", "3 frames, 16x16", flow["latents"], goldenOf(t, io, "b3_16x16.out"))

	weights, io = open(t, "../taesd/diffusion_pytorch_model.safetensors"), open(t, "../taesd/io.safetensors")
	tiny, err := DetectAutoencoder(weights)
	if err != nil {
		t.Fatal(err)
	}
	if g, err = tiny.Encoder(2, 64, 64, weights, to); err != nil {
		t.Fatal(err)
	}
	check("TAESD encoder", "64x64", run(Flow{"image": goldenOf(t, io, "h64_w64.image")}, g)["mean"], goldenOf(t, io, "h64_w64.latent"))
	if g, err = tiny.Decoder(2, 8, 8, weights, to); err != nil {
		t.Fatal(err)
	}
	check("TAESD decoder", "64x64", run(Flow{"latents": goldenOf(t, io, "h64_w64.latent2")}, g)["image"], goldenOf(t, io, "h64_w64.decoded2"))
}
