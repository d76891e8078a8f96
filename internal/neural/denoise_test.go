package neural

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// tinyDenoiser returns a denoiser with the tiny UNet, which is not compiled yet.
func tinyDenoiser(t testing.TB, o Options, side int) *denoiser {
	t.Helper()
	var c configs
	var err error
	if c.unet, err = network.DetectUNet(openPath(t, o.Files.UNet)); err != nil {
		t.Fatal(err)
	}
	if c.encoder, err = network.DetectAutoencoder(openPath(t, o.Files.VAE)); err != nil {
		t.Fatal(err)
	}
	if c.whisper, err = network.DetectWhisper(openPath(t, o.Files.Whisper)); err != nil {
		t.Fatal(err)
	}
	o.Resolution = side * c.encoder.Factor
	d := &denoiser{o: o, configs: c, latent: side, noise: make([]float32, 4*side*side), mask: make([]float32, side*side)}
	n := networksFor(t, o)
	d.net, d.steps = n.add(d.model()), n.add(d.stepModel())
	return d
}

// planes returns channels from..to-1 of frame i of (1, c, f, n).
func planes(x []float32, c, f, i, from, to int) []float32 {
	n := len(x) / (c * f)
	var out []float32
	for k := from; k < to; k++ {
		at := (k*f + i) * n
		out = append(out, x[at:at+n]...)
	}
	return out
}

// sixSteps denoises the input of the original's six steps and returns the latents in its
// layout, (1, 4, 4, 16, 16). The mask there is random and differs between frames.
func (d *denoiser) sixSteps(t testing.TB) ([]float32, error) {
	t.Helper()
	if err := d.net.ready(t.Context(), 4); err != nil {
		return nil, err
	}
	file := openGolden(t, "unet/deepcache.safetensors")
	noise, cond, audio := values(t, file, "latents0"), values(t, file, "cond9"), values(t, file, "audio")
	var sample []float32
	for i := range 4 {
		sample = append(append(sample, planes(noise, 4, 4, i, 0, 4)...), planes(cond, 9, 4, i, 0, 9)...)
	}
	w, err := d.beginWith(t.Context(), tensor.FromF32(sample, 4, 13, 16, 16), tensor.FromF32(audio, 4, 50, 64))
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.close() }()
	if err := d.run(t.Context(), 0, []*denoising{w}); err != nil {
		return nil, err
	}
	x, err := w.result(t.Context())
	if err != nil {
		return nil, err
	}
	var out []float32
	for c := range 4 {
		out = append(out, planes(x, 4, 4, c, 0, 4)...) // swaps frames and channels
	}
	return out, err
}

// TestDeepCacheGolden compares latents, which reach several units, within 1e-3. Skipping
// the deep layers in two of three steps changes the original's latents by 4.9.
func TestDeepCacheGolden(t *testing.T) {
	file := openGolden(t, "unet/deepcache.safetensors")
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		o := tinyOn(t, on)
		o.Steps = 6
		d := tinyDenoiser(t, o, 16)
		for _, r := range []struct {
			name     string
			interval int
		}{{"plain", 0}, {"deepcache", 3}} {
			d.o.DeepCache = r.interval
			got, err := d.sixSteps(t)
			if err != nil {
				t.Fatal(err)
			}
			on.Check(t, "UNet and DDIM", fmt.Sprintf("6 steps, DeepCache %d", r.interval), got, values(t, file, r.name+".latents_5"), 1e-3)
		}
	})
}

// TestHalfPrecisionLatents measures the error of bfloat16 after six steps. Random weights
// amplify rounding about tenfold, so the limit only catches gross errors.
func TestHalfPrecisionLatents(t *testing.T) {
	file := openGolden(t, "unet/deepcache.safetensors")
	o := tiny(t, openBackend(t, openvino.Name))
	o.Steps, o.Plan.Precision = 6, string(backend.BF16)
	d := tinyDenoiser(t, o, 16)
	got, err := d.sixSteps(t)
	if fault.KindOf(err) == fault.Usage {
		t.Skip(err) // this CPU does not support it
	}
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, golden.Measurement{Module: "UNet and DDIM", Case: "6 steps", Backend: "openvino", Precision: "bf16",
		Measure: golden.PSNR, Value: golden.Ratio(got, values(t, file, "plain.latents_5")), Limit: 35})
}

// TestWindowIsCancelled cancels a window between two steps, before the first step and from
// another goroutine, and then uses the same network again.
func TestWindowIsCancelled(t *testing.T) {
	onEach(t, func(t *testing.T, b *backendtest.Cached) {
		o := tiny(t, b)
		o.Steps = 100
		d := tinyDenoiser(t, o, 16)
		if err := d.net.ready(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		frames := make([]condition, 4)
		for i := range frames {
			frames[i] = condition{latents: make([]float32, 8*16*16), tokens: make([]float32, 50*64)}
		}

		stop := func(name string, watch func(cancel func())) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			watch(cancel)
			if _, err := d.windows(ctx, []input{{frames: frames}}); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Cancelled {
				t.Errorf("%s: error %v of kind %d", name, err, fault.KindOf(err))
			}
		}
		stop("between steps", func(cancel func()) {
			d.o.Progress = func(_ int64, k, _ int) {
				if cancel(); k > 1 {
					t.Errorf("step %d after the cancellation", k)
				}
			}
		})
		d.o.Progress = func(_ int64, k, _ int) { t.Errorf("step %d was finished", k) }
		stop("before the first step", func(cancel func()) { cancel() })
		// The other goroutine cancels in the second step or right after it.
		stop("from another goroutine", func(cancel func()) {
			begun, cancelled := make(chan struct{}), make(chan struct{})
			d.o.Progress = func(_ int64, k, _ int) {
				switch k {
				case 1:
					close(begun)
				case 2:
					<-cancelled
				default:
					t.Errorf("step %d after the cancellation", k)
				}
			}
			go func() { <-begun; cancel(); close(cancelled) }()
		})

		d.o.Steps, d.o.Progress = 1, nil
		if _, err := d.windows(t.Context(), []input{{frames: frames}}); err != nil {
			t.Errorf("after the cancellations: %v", err)
		}
	})
}

func TestFinite(t *testing.T) {
	nan := float32(math.NaN())
	inf := float32(math.Inf(-1))
	for _, c := range []struct {
		x    []float32
		want string
	}{{nil, ""}, {[]float32{1, 0, -math.MaxFloat32}, ""}, {[]float32{1, nan}, "the network returned NaN"}, {[]float32{inf}, "the network returned -Inf"}} {
		got := ""
		if err := finite(c.x); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.x, got, c.want)
		}
	}
}

// TestResidentLatents: latents that stay in the memory of the runtime, with both halves of
// guidance in one call, are those of Go's own steps.
func TestResidentLatents(t *testing.T) {
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		if on.Name() != onnxruntime.Name {
			t.Skip(on.Name() + " keeps no tensors on the device")
		}
		residentLatents(t, on)
	})
}

func residentLatents(t *testing.T, on sharedtest.Target) {
	for _, c := range []struct {
		sampler   string
		guidance  float64
		deepCache int
		windows   int // in one call; 0 for calls of their own
	}{{DDIM, 1.5, 0, 0}, {DDIM, 1, 2, 0}, {DPM, 1.5, 3, 2}} {
		t.Run(fmt.Sprintf("%s, guidance %v, DeepCache %d, %d windows", c.sampler, c.guidance, c.deepCache, c.windows), func(t *testing.T) {
			o := tinyOn(t, on)
			o.Sampler, o.Guidance, o.DeepCache, o.Steps = c.sampler, c.guidance, c.deepCache, 4
			o.Batched, o.Plan.Windows = c.windows > 0, max(1, c.windows)
			list, mask, start := randomWindows(2)
			var results [2][][][]float32
			for i, resident := range []bool{false, true} {
				o.Device.Resident = resident
				d := tinyDenoiser(t, o, 16)
				d.noise, d.mask = start, mask
				var err error
				if results[i], err = d.windows(t.Context(), list); err != nil {
					t.Fatal(err)
				}
			}
			limit := 1e-4
			if sharedtest.OnDevice() {
				limit = 1e-3 // kernels depend on the size of the batch; that of TestDeepCacheGolden
			}
			for w := range list {
				for f := range list[w].frames {
					got, want := results[1][w][f], results[0][w][f]
					if d := golden.MaxAbs(got, want); on.Precision == backend.F32 && !(d <= limit) {
						t.Errorf("window %d, frame %d: off by %v", w, f, d)
					}
					if r := golden.Ratio(got, want); on.Precision == backend.F16 && !(r >= 40) {
						t.Errorf("window %d, frame %d: PSNR %v dB", w, f, r)
					}
				}
			}
			if slices.Equal(results[0][0][0], results[0][1][0]) {
				t.Error("both windows are the same")
			}
		})
	}
}
