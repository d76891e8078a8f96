package network

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/tensor"
)

func TestSlices(t *testing.T) {
	for _, c := range []struct{ asked, tokens, want int }{
		{0, 4096, 1}, {1, 4096, 1}, {2, 4096, 2}, {4, 4096, 4}, {64, 4096, 16}, // 256 tokens or more
		{4, 16, 1}, {4, 256, 1}, {4, 512, 2}, {3, 1024, 2}, {4, 1500, 4}, {2, 1031, 1},
	} {
		if got := (Target{Slices: c.asked}).slices(c.tokens); got != c.want {
			t.Errorf("%d slices of %d tokens: %d, want %d", c.asked, c.tokens, got, c.want)
		}
	}
}

// noise returns a tensor of normal random numbers.
func noise(seed uint64, shape ...int) *tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	v := make([]float32, tensor.Volume(shape))
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return tensor.FromF32(v, shape...)
}

// same fails the test if the largest difference exceeds 1e-6 of the largest value. It does
// not use golden.Check, because nothing here is compared with the original.
func same(t *testing.T, what string, got, want *tensor.Tensor) {
	t.Helper()
	var most float64
	for _, v := range want.F32() {
		most = max(most, math.Abs(float64(v)))
	}
	d := golden.MaxAbs(got.F32(), want.F32()) / most
	t.Logf("%s: off by %.3g of the largest value", what, d)
	if !(d <= 1e-6) {
		t.Errorf("%s: off by %g of the largest value", what, d)
	}
}

// TestSlicesExact checks that sliced attention does not change the results of networks. At
// these sizes the UNet's first level (1024 tokens) and the VAE's attention (1024 tokens)
// are sliced.
func TestSlicesExact(t *testing.T) {
	unet, vaes := open(t, "models/latentsync_unet.pt"), open(t, "models/vae/diffusion_pytorch_model.safetensors")
	vae, err := DetectVAE(vaes)
	if err != nil {
		t.Fatal(err)
	}
	const frames, side, latent = 2, 32, 32
	picture := latent * vae.Factor()
	inputs := map[string]Flow{
		"UNet": {"sample": noise(1, frames, 13, side, side), "time": TimeEmbedding(501, 32), "audio": noise(2, frames, 50, 64)},
		"VAE":  {"image": noise(3, 1, 3, picture, picture), "latents": noise(4, 1, vae.Latent, latent, latent)},
	}
	networks := map[string]func(*testing.T, Target) []*onnx.Graph{
		"UNet": func(t *testing.T, to Target) []*onnx.Graph {
			u, err := NewUNet(tinyUNet(), UNetShape{Batch: 1, Frames: frames, Latent: side, Tokens: 50}, unet, to)
			if err != nil {
				t.Fatal(err)
			}
			return u.Graphs
		},
		"VAE": func(t *testing.T, to Target) []*onnx.Graph { return coders(t, vae, 1, latent, vaes, to) },
	}
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		if b.Name() == openvino.Name && os.Getenv(backendtest.LongVariable) == "" {
			t.Skip("compiling takes long, and OpenVINO fuses attention, so that jobs use no slices")
		}
		for name, build := range networks {
			run := func(slices int) Flow {
				to.Slices = slices
				flow := Flow{}
				for k, v := range inputs[name] {
					flow[k] = v
				}
				runAll(t, b, flow, build(t, to)...)
				return flow
			}
			whole := run(0)
			for _, n := range []int{2, 4} {
				got := run(n)
				for _, output := range []string{"noise", "mean", "logvar", "image"} {
					if want := whole[output]; want != nil && inputs[name][output] != want {
						same(t, fmt.Sprintf("%s %s, %d slices against one", name, output, n), got[output], want)
					}
				}
			}
		}
	})
}

// coders returns the VAE's encoder and decoder for n images. In one flow, the decoder's
// "image" replaces the input.
func coders(t *testing.T, c VAEConfig, n, latent int, w *checkpoint.File, to Target) []*onnx.Graph {
	t.Helper()
	enc, err := VAEEncoder(c, n, latent*c.Factor(), latent*c.Factor(), w, to)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := VAEDecoder(c, n, latent, latent, w, to)
	if err != nil {
		t.Fatal(err)
	}
	return []*onnx.Graph{enc, dec}
}

// TestImagesAlone checks that the VAE treats several images of a call as it treats each
// image alone. The images differ in brightness and contrast, so that normalising them
// together would show.
func TestImagesAlone(t *testing.T) {
	weights := open(t, "models/vae/diffusion_pytorch_model.safetensors")
	vae, err := DetectVAE(weights)
	if err != nil {
		t.Fatal(err)
	}
	const n, latent = 3, 8
	side := latent * vae.Factor()
	images, latents := noise(5, n, 3, side, side), noise(6, n, vae.Latent, latent, latent)
	for _, x := range []*tensor.Tensor{images, latents} {
		v := x.F32()
		for i := range v {
			k := float32(i / (len(v) / n))
			v[i] = v[i]/(1+2*k) + k/2
		}
	}
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		together := Flow{"image": images, "latents": latents}
		runAll(t, b, together, coders(t, vae, n, latent, weights, to)...)
		one := coders(t, vae, 1, latent, weights, to)
		for i := range n {
			alone := Flow{"image": item(images, i), "latents": item(latents, i)}
			runAll(t, b, alone, one...)
			for _, output := range []string{"mean", "logvar", "image"} {
				same(t, fmt.Sprintf("VAE %s, picture %d of %d against alone", output, i+1, n), item(together[output], i), alone[output])
			}
		}
	})
}

// item returns one item of a stack.
func item(x *tensor.Tensor, i int) *tensor.Tensor {
	n := x.Len() / x.Shape[0]
	return tensor.FromF32(x.F32()[i*n:(i+1)*n], append([]int{1}, x.Shape[1:]...)...)
}

// attentionTokens is the number of tokens of 512 pixels at the UNet's first level, which
// has 8 heads: all scores of a frame take 512 MiB.
const (
	attentionTokens = 4096
	attentionWidth  = 320
	attentionScores = 8 * attentionTokens * attentionTokens * 4
)

// TestAttentionMemory measures how slices change the memory of a session, each in a separate
// process. Fused operators hold no scores, so slices save nothing. ONNX Runtime fuses
// nothing of the plain dialect, so it holds the scores of a slice.
func TestAttentionMemory(t *testing.T) {
	if how := os.Getenv("LIPSTREAM_ATTENTION"); how != "" {
		attentionChild(t, how)
		return
	}
	if _, err := highWater(); err != nil {
		t.Skip(err)
	}
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		dialects := map[string]Dialect{"plain": Plain}
		if to.Dialect == Microsoft {
			dialects["microsoft"] = Microsoft
		}
		for name, dialect := range dialects {
			grew := map[int]int64{}
			fused := dialect == Microsoft || to.Dialect == OpenVINO
			counts := []int{1}
			switch {
			case os.Getenv(backendtest.LongVariable) != "":
				counts = []int{1, 2, 4, 8}
			case !fused:
				counts = []int{1, 4}
			}
			for _, slices := range counts {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAttentionMemory$/^"+b.Name()+"$", "-test.v")
				cmd.Env = append(os.Environ(), fmt.Sprintf("LIPSTREAM_ATTENTION=%d %d", dialect, slices))
				out, err := cmd.CombinedOutput()
				_, text, found := strings.Cut(string(out), "grew by ")
				if err != nil || !found {
					t.Fatalf("%v\n%s", err, out)
				}
				text, _, _ = strings.Cut(text, " bytes")
				if grew[slices], err = strconv.ParseInt(text, 10, 64); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s, %s, %d slices: %d MiB", b.Name(), name, slices, grew[slices]>>20)
			}
			switch {
			case fused && grew[1] > attentionScores/4:
				t.Errorf("%s, %s: %d MiB for one attention: it holds its %d MiB of scores", b.Name(), name, grew[1]>>20, attentionScores>>20)
			case !fused && grew[4] > grew[1]/2:
				t.Errorf("%s, %s: %d MiB with 4 slices, %d without", b.Name(), name, grew[4]>>20, grew[1]>>20)
			}
		}
	})
}

// attentionChild prints the memory that a session of one attention adds to this process.
func attentionChild(t *testing.T, how string) {
	onEach(t, func(t *testing.T, b backend.Backend, to Target) {
		if _, err := fmt.Sscan(how, &to.Dialect, &to.Slices); err != nil {
			t.Fatal(err)
		}
		g := newBuilder("attention", nil, to)
		in := func(name string) onnx.Value { return g.Input(name, tensor.F32, attentionTokens, attentionWidth) }
		y := g.attention(in("q"), in("k"), in("v"), 1, attentionTokens, attentionTokens, 8, attentionWidth)
		g.Output("y", y, tensor.F32, attentionTokens, attentionWidth)
		flow := Flow{}
		for i, name := range []string{"q", "k", "v"} {
			flow[name] = noise(uint64(i), attentionTokens, attentionWidth)
		}
		before, err := highWater()
		if err != nil {
			t.Fatal(err)
		}
		runAll(t, b, flow, g.Graph)
		after, err := highWater()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("grew by %d bytes\n", after-before)
	})
}

// highWater returns the most memory that this process has held.
func highWater() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, line, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	_, err = fmt.Sscan(line, &kib)
	return kib << 10, err
}
