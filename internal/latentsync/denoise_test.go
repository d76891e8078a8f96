package latentsync

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/tensor"
)

// tinyDenoiser returns a denoiser with the tiny UNet, which is not compiled yet.
func tinyDenoiser(t testing.TB, o Options, side int) *denoiser {
	t.Helper()
	config, err := network.DetectUNet(openPath(t, o.Files.UNet))
	if err != nil {
		t.Fatal(err)
	}
	d := &denoiser{o: o, config: config, latent: side, tokens: 50, noise: make([]float32, 4*side*side)}
	d.net = networksFor(t, o).add(d.model())
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
	var x, sample []float32
	for i := range 4 {
		x = append(x, planes(noise, 4, 4, i, 0, 4)...)
		sample = append(append(sample, make([]float32, 4*16*16)...), planes(cond, 9, 4, i, 0, 9)...)
	}
	w, err := d.beginWith(x, tensor.FromF32(sample, 4, 13, 16, 16), tensor.FromF32(audio, 4, 50, 64))
	if err == nil {
		err = d.run(t.Context(), 0, []*denoising{w})
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
	onEach(t, func(t *testing.T, b *backendtest.Cached) {
		o := tiny(t, b)
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
			golden.Check(t, golden.Measurement{Module: "UNet and DDIM", Case: fmt.Sprintf("6 steps, DeepCache %d", r.interval), Backend: b.Name(), Precision: "f32",
				Measure: "max abs", Value: golden.MaxAbs(got, values(t, file, r.name+".latents_5")), Limit: 1e-3})
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
		mask := make([]float32, 16*16)

		stop := func(name string, watch func(cancel func())) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			watch(cancel)
			if _, err := d.windows(ctx, mask, []input{{frames: frames}}); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Cancelled {
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
		if _, err := d.windows(t.Context(), mask, []input{{frames: frames}}); err != nil {
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
