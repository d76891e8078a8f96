package network

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/tensor"
)

// beyond returns the largest absolute difference, less 1e-5 of the value.
func beyond(got, want []float32) float64 {
	most := golden.MaxAbs(got, want)
	if math.IsInf(most, 0) {
		return most
	}
	most = 0
	for i, w := range want {
		most = max(most, math.Abs(float64(got[i])-float64(w))-1e-5*math.Abs(float64(w)))
	}
	return most
}

// TestTAESDGolden compares with diffusers and the original module, in both layouts, with
// the tolerance of testdata/taesd/README.md: 1e-4 and 1e-5 of the value.
func TestTAESDGolden(t *testing.T) {
	io := open(t, "../taesd/io.safetensors")
	for layout, files := range map[string][2]string{
		"diffusers": {"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors"},
		"original":  {"taesd_encoder.safetensors", "taesd_decoder.safetensors"},
	} {
		enc, dec := open(t, filepath.Join("../taesd", files[0])), open(t, filepath.Join("../taesd", files[1]))
		encoder, err := DetectAutoencoder(enc)
		if err != nil || encoder.Factor != 8 || encoder.Scale != 1 || encoder.Samples {
			t.Fatalf("%+v, %v", encoder, err)
		}
		decoder, err := DetectAutoencoder(dec)
		if err != nil || decoder.Latent != 4 {
			t.Fatalf("%+v, %v", decoder, err)
		}
		if both := encoder.Decoder != nil && decoder.Encoder != nil; both != (layout == "diffusers") {
			t.Errorf("the %s layout has both halves in a file: %v", layout, both)
		}
		onEachLayout(t, func(t *testing.T, b backend.Backend, precision string, to Target) {
			for _, c := range []struct{ size, latent, decoded string }{{"h64_w64", "latent2", "decoded2"}, {"h96_w64", "latent", "decoded"}} {
				image, latent := goldenOf(t, io, c.size+".image"), goldenOf(t, io, c.size+"."+c.latent)
				check := func(name string, got, want *tensor.Tensor) {
					golden.Check(t, golden.Measurement{Module: "TAESD " + name, Case: layout + " " + c.size, Backend: b.Name(), Precision: precision,
						Measure: "max abs beyond 1e-5 of the value", Value: beyond(got.F32(), want.F32()), Limit: 1e-4})
				}
				g, err := encoder.Encoder(image.Shape[0], image.Shape[2], image.Shape[3], enc, to)
				if err != nil {
					t.Fatal(err)
				}
				flow := Flow{"image": image}
				runAll(t, b, flow, g)
				check("latents", flow["mean"], goldenOf(t, io, c.size+".latent"))
				if g, err = decoder.Decoder(latent.Shape[0], latent.Shape[2], latent.Shape[3], dec, to); err != nil {
					t.Fatal(err)
				}
				flow = Flow{"latents": latent}
				runAll(t, b, flow, g)
				check("decoded", flow["image"], goldenOf(t, io, c.size+"."+c.decoded))
			}
		})
	}
}

// TestTAESDRows checks that a decoder of some rows returns those of the whole image.
func TestTAESDRows(t *testing.T) {
	io, file := open(t, "../taesd/io.safetensors"), open(t, "../taesd/taesd_decoder.safetensors")
	decoder, err := DetectAutoencoder(file)
	if err != nil {
		t.Fatal(err)
	}
	// The golden latents, 12×8, in a column of 48, so that all stages are cut.
	latent := goldenOf(t, io, "h96_w64.latent")
	n, c, h, w := latent.Shape[0], latent.Shape[1], latent.Shape[2], latent.Shape[3]
	const copies = 4
	tall := tensor.New(tensor.F32, n, c, copies*h, w)
	for i := range tall.F32() {
		plane, y, x := i/(copies*h*w), i/w%(copies*h), i%w
		tall.F32()[i] = latent.F32()[(plane*h+y%h)*w+x] * (1 - 0.2*float32(y/h))
	}
	height, width := 8*copies*h, 8*w
	decode := func(t *testing.T, b backend.Backend, graph AutoencoderGraph, to Target) *tensor.Tensor {
		g, err := graph(n, copies*h, w, file, to)
		if err != nil {
			t.Fatal(err)
		}
		flow := Flow{"latents": tall}
		runAll(t, b, flow, g)
		return flow["image"]
	}
	onEachLayout(t, func(t *testing.T, b backend.Backend, precision string, to Target) {
		whole := decode(t, b, decoder.Decoder, to)
		for _, r := range []rows{{0, height}, {0, 1}, {height - 1, height}, {201, 202}, {104, 256}, {94, 245}, {190, height}} {
			image := decode(t, b, decoder.Rows(r.from, r.to), to)
			if want := []int{n, 3, r.to - r.from, width}; !slices.Equal(image.Shape, want) {
				t.Fatalf("rows %d to %d have the shape %v, want %v", r.from, r.to, image.Shape, want)
			}
			var want []float32
			for plane := range slices.Chunk(whole.F32(), height*width) {
				want = append(want, plane[r.from*width:r.to*width]...)
			}
			if d := golden.MaxAbs(image.F32(), want); !(d <= 1e-5) {
				t.Errorf("%s: rows %d to %d differ by %g from those of the whole image", precision, r.from, r.to, d)
			}
		}
	})
	for _, r := range []rows{{-1, 3}, {5, 5}, {0, height + 1}} {
		if _, err := decoder.Rows(r.from, r.to)(n, copies*h, w, file, Target{}); err == nil {
			t.Errorf("rows %d to %d of %d are accepted", r.from, r.to, height)
		}
	}
}

// TestTAESDKeys compares the published topology with the names and shapes in all layouts.
func TestTAESDKeys(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(goldens, "../taesd/keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var layouts map[string]map[string][]int
	if err := json.Unmarshal(text, &layouts); err != nil {
		t.Fatal(err)
	}
	for layout, keys := range layouts {
		c := PublishedTAESD()
		c.Encoder, c.Decoder = layout != "taesd_decoder", layout != "taesd_encoder"
		wants := TAESDWants(c)
		if len(wants) != len(keys) {
			t.Errorf("%s: %d tensors, want %d", layout, len(wants), len(keys))
		}
		for _, w := range wants {
			name := w.Name
			if layout != "diffusers" {
				name = w.Aliases[0]
			}
			if !slices.Equal(keys[name], w.Shape) {
				t.Errorf("%s: %s is %v, want %v", layout, name, w.Shape, keys[name])
			}
		}
	}
}

func TestDetectTAESD(t *testing.T) {
	random := func(change func(w *checkpoint.Want)) *checkpoint.File {
		wants := TAESDWants(TAESDConfig{Width: 8, Latent: 4, Encoder: true, Decoder: true})
		for i := range wants {
			change(&wants[i])
		}
		return randomWeights(t, wants)
	}
	vae, unet := open(t, "models/vae/diffusion_pytorch_model.safetensors"), open(t, "models/latentsync_unet.pt")
	for _, c := range []struct {
		name  string
		file  *checkpoint.File
		parts []string
	}{
		{"16 channels of latents", random(func(w *checkpoint.Want) {
			switch {
			case strings.HasPrefix(w.Name, "encoder.layers.14."):
				w.Shape[0] = 16
			case w.Name == "decoder.layers.0.weight":
				w.Shape[1] = 16
			}
		}), []string{"tiny autoencoder of another model", "16 channels"}},
		{"another shape", random(func(w *checkpoint.Want) {
			if w.Name == "decoder.layers.17.conv.4.weight" {
				w.Shape = []int{8, 8, 1, 1}
			}
		}), []string{"decoder.layers.17.conv.4.weight [8 8 1 1] instead of [8 8 3 3]"}},
		{"the full VAE", vae, []string{"a full VAE, not TAESD"}},
		{"a UNet", unet, []string{"not TAESD"}},
	} {
		_, err := DetectTAESD(c.file)
		if fault.KindOf(err) != fault.Input {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, p := range c.parts {
			if !strings.Contains(err.Error(), p) {
				t.Errorf("%s: %q does not contain %q", c.name, err, p)
			}
		}
	}
	if a, err := DetectAutoencoder(vae); err != nil || a.Scale != VAEScale || !a.Samples || a.Factor != 8 {
		t.Errorf("the VAE: %+v, %v", a, err)
	}
	if _, err := TAESDEncoder(PublishedTAESD(), 1, 64, 60, nil, Target{}); err == nil {
		t.Error("an image of 64×60 pixels is accepted")
	}
}
