package network

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/tensor"
)

// storedAs writes a checkpoint whose matrices and kernels have a type, and another with the
// same values in f32.
func storedAs(t *testing.T, from *checkpoint.File, d tensor.DType) (stored, plain *checkpoint.File) {
	t.Helper()
	values := [2]map[string]*tensor.Tensor{{}, {}}
	var specs [2][]checkpoint.Spec
	add := func(i int, name string, v *tensor.Tensor) {
		values[i][name] = v
		specs[i] = append(specs[i], checkpoint.Spec{Name: name, DType: v.DType, Shape: v.Shape})
	}
	for _, name := range from.Names() {
		v := from.Tensor(name)
		if v.DType == tensor.F16 {
			v = v.ToF32()
		}
		if len(v.Shape) < 2 || v.DType != tensor.F32 || filepath.Ext(name) == ".pe" {
			add(0, name, v)
			add(1, name, v)
			continue
		}
		small := tensor.New(d, v.Shape...)
		if d == tensor.F16 {
			tensor.F32ToF16(small.Data, v.F32())
			add(0, name, small)
			add(1, name, small.ToF32())
			continue
		}
		rows := v.Shape[0]
		scales, width := tensor.New(tensor.F32, rows), v.Len()/rows
		for r := range rows {
			row := v.F32()[r*width : (r+1)*width]
			scales.F32()[r] = tensor.Scale(row)
			tensor.Quantize(small.Data[r*width:], row, scales.F32()[r])
		}
		add(0, name, small)
		add(0, name+checkpoint.ScaleSuffix, scales)
		add(1, name, tensor.Dequantize(small, scales))
	}
	var files [2]*checkpoint.File
	for i := range files {
		path := filepath.Join(t.TempDir(), "weights.safetensors")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		err = checkpoint.WriteSafetensors(f, nil, specs[i], func(k int, w io.Writer) error {
			_, err := w.Write(values[i][specs[i][k].Name].Data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if files[i], err = checkpoint.Open(path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = files[i].Close() })
	}
	return files[0], files[1]
}

// TestStored checks that weights that are converted while a layer runs give what the same
// values give in f32, and that a graph holds no copy of them.
func TestStored(t *testing.T) {
	unet, io := open(t, "models/latentsync_unet.pt"), open(t, "unet/io.safetensors")
	vae, images := open(t, "models/vae/diffusion_pytorch_model.safetensors"), open(t, "vae_f8/io.safetensors")
	config, err := DetectVAE(vae)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []tensor.DType{tensor.F16, tensor.I8} {
		t.Run(d.String(), func(t *testing.T) {
			storedUNet, plainUNet := storedAs(t, unet, d)
			onEach(t, func(t *testing.T, b backend.Backend, to Target) {
				if d == tensor.F16 && b.Name() == openvino.Name && os.Getenv(backendtest.LongVariable) == "" {
					t.Skip("OpenVINO compiles for seconds, and int8 shows the same")
				}
				compare := func(what string, got, want *tensor.Tensor) {
					if r := golden.Ratio(got.F32(), want.F32()); r < 90 {
						t.Errorf("%s: %.1f dB to the same weights in f32", what, r)
					}
				}
				x := swap(goldenOf(t, io, "f8_hw16.sample"), 2, 13, 8)
				x = tensor.FromF32(x.F32()[x.Len()/2:], 8, 13, 16, 16)
				noise := func(weights *checkpoint.File, to Target) *tensor.Tensor {
					u, err := NewUNet(tinyUNet(), UNetShape{Batch: 1, Frames: 8, Latent: 16, Tokens: 50}, weights, to)
					if err != nil {
						t.Fatal(err)
					}
					fed := 0
					for _, g := range u.Graphs {
						fed += len(g.Feeds())
						for _, w := range g.Weights() {
							if to.Stored != 0 && w.DType == to.Stored {
								t.Errorf("%s holds %s", g.Name(), w.Name)
							}
						}
					}
					if (fed > 0) != (to.Stored != 0) {
						t.Errorf("%d weights are passed with each run", fed)
					}
					flow := Flow{"sample": x, "time": TimeEmbedding(501, 32), "audio": goldenOf(t, io, "f8_hw16.audio")}
					runAll(t, b, flow, u.Graphs...)
					return flow["noise"]
				}
				feeding := to
				feeding.Stored = d
				compare("UNet", noise(storedUNet, feeding), noise(plainUNet, to))
			})
		})
	}
	stored, plain := storedAs(t, vae, tensor.F16)
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		decode := func(weights *checkpoint.File, to Target) *tensor.Tensor {
			g, err := VAEDecoder(config, 2, 8, 8, weights, to)
			if err != nil {
				t.Fatal(err)
			}
			flow := Flow{"latents": goldenOf(t, images, "h64_w64.mean")}
			runAll(t, b, flow, g)
			return flow["image"]
		}
		feeding := to
		feeding.Stored = tensor.F16
		if r := golden.Ratio(decode(stored, feeding).F32(), decode(plain, to).F32()); r < 90 {
			t.Errorf("VAE decoder: %.1f dB to the same weights in f32", r)
		}
	})
}
