package network

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/tensor"
)

const museTalkUNet = "../musetalk/models/musetalkV15/unet.pth"

// onEachLayout is onEach, and runs a test with the channels last, as on an NVIDIA GPU.
func onEachLayout(t *testing.T, test func(t *testing.T, b backend.Backend, precision string, to Target)) {
	onEach(t, func(t *testing.T, b backend.Backend, to Target) { test(t, b, "f32", to) })
	t.Run("channels last", func(t *testing.T) { test(t, openLowered(t), "f32, channels last", forCUDA(tensor.F32)) })
}

// TestMuseTalkGolden compares with the original on a tiny random checkpoint, with the
// tolerance of testdata/musetalk/networks.md: 2e-4, for outputs up to 2.8.
func TestMuseTalkGolden(t *testing.T) {
	weights, io := open(t, museTalkUNet), open(t, "../musetalk/unet/io.safetensors")
	config, err := DetectMuseTalk(weights)
	if err != nil {
		t.Fatal(err)
	}
	onEachLayout(t, func(t *testing.T, b backend.Backend, precision string, to Target) {
		cases := []string{"b3_16x16", "b1_16x24", "b1_32x32_tok10"}
		if b.Name() == openvino.Name {
			cases = []string{"b3_16x16", "b1_32x32_tok10"} // compiling is slow
		}
		for _, name := range cases {
			sample, audio := goldenOf(t, io, name+".sample"), goldenOf(t, io, name+".audio")
			graphs, err := MuseTalkUNet(config, MuseTalkShape{Frames: sample.Shape[0], Height: sample.Shape[2], Width: sample.Shape[3], Tokens: audio.Shape[1]}, weights, to)
			if err != nil {
				t.Fatal(err)
			}
			flow := Flow{"sample": sample, "audio": audio}
			runAll(t, b, flow, graphs...)
			golden.Check(t, golden.Measurement{Module: "UNet of MuseTalk", Case: fmt.Sprintf("%d frames, %dx%d, %d tokens", sample.Shape[0], sample.Shape[3], sample.Shape[2], audio.Shape[1]),
				Backend: b.Name(), Precision: precision, Measure: "max abs", Value: golden.MaxAbs(flow["latents"].F32(), goldenOf(t, io, name+".out").F32()), Limit: 2e-4})
		}
	})
}

// TestDetectMuseTalk checks that UNets are told apart.
func TestDetectMuseTalk(t *testing.T) {
	tiny := tinyUNet()
	tiny.In, tiny.Positions = 8, 0
	random := func(change func(c *UNetConfig)) *checkpoint.File {
		c := tiny
		change(&c)
		return randomWeights(t, UNetWants(c))
	}
	muse, latentSync := open(t, museTalkUNet), open(t, "models/latentsync_unet.pt")
	for _, c := range []struct {
		name   string
		detect func(*checkpoint.File) (UNetConfig, error)
		file   *checkpoint.File
		want   string // in the error; "" for none
	}{
		{"MuseTalk", DetectMuseTalk, muse, ""},
		{"random MuseTalk", DetectMuseTalk, random(func(*UNetConfig) {}), ""},
		{"LatentSync as MuseTalk", DetectMuseTalk, latentSync, "not a MuseTalk UNet but that of LatentSync"},
		{"MuseTalk as LatentSync", DetectUNet, muse, "not a LatentSync UNet but that of MuseTalk"},
		{"Stable Diffusion 1", DetectMuseTalk, random(func(c *UNetConfig) { c.In, c.AudioDim = 4, 768 }), "an image model with 4 channels in"},
		{"InstructPix2Pix", DetectMuseTalk, random(func(c *UNetConfig) { c.AudioDim = 768 }), "an image model with 8 channels in"},
		{"16 channels out", DetectMuseTalk, random(func(c *UNetConfig) { c.Out = 16 }), "it has 8 channels in and 16 out"},
		{"a VAE", DetectMuseTalk, open(t, "models/vae/diffusion_pytorch_model.safetensors"), "not a MuseTalk UNet"},
		{"a layer less", DetectMuseTalk, randomWeights(t, UNetWants(tiny)[1:]), "1 missing"},
	} {
		_, err := c.detect(c.file)
		if c.want == "" && err != nil || c.want != "" && (fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := MuseTalkUNet(PublishedMuseTalk(), MuseTalkShape{Frames: 1, Height: 32, Width: 20, Tokens: 50}, nil, Target{}); err == nil {
		t.Error("latents of 20×32 are accepted")
	}
}
