package neural

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/onnxruntime"
	"github.com/lipstream/lipstream/internal/backend/openvino"
	"github.com/lipstream/lipstream/internal/backend/sharedtest"
	"github.com/lipstream/lipstream/internal/golden"
	"github.com/lipstream/lipstream/internal/sampler"
)

// randomWindows returns windows of two frames, and a denoiser's mask and noise.
func randomWindows(n int) (list []input, mask, noise []float32) {
	random := rand.New(rand.NewPCG(3, 4))
	values := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(random.NormFloat64())
		}
		return v
	}
	for range n {
		var frames []condition
		for range 2 {
			frames = append(frames, condition{latents: values(8 * 16 * 16), tokens: values(50 * 64)})
		}
		list = append(list, input{frames: frames})
	}
	return list, values(16 * 16), values(4 * 16 * 16)
}

// sparer returns a denoiser of four DDIM steps with guidance 1.5.
func sparer(t *testing.T, on sharedtest.Target, mask, noise []float32, set func(*Options)) *denoiser {
	t.Helper()
	o := tinyOn(t, on)
	o.Sampler, o.Steps, o.Guidance, o.DeepCache = DDIM, 4, 1.5, 1
	set(&o)
	d := tinyDenoiser(t, o, 16)
	d.mask, d.noise = mask, noise
	return d
}

func (d *denoiser) must(t *testing.T, list ...input) [][][]float32 {
	t.Helper()
	out, err := d.windows(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(a, b [][][]float32) bool {
	return slices.EqualFunc(a, b, func(a, b [][]float32) bool { return slices.EqualFunc(a, b, slices.Equal[[]float32]) })
}

// begun returns a denoising before its first step.
func (d *denoiser) begun(t *testing.T, frames []condition) *denoising {
	t.Helper()
	if err := d.net.ready(t.Context(), len(frames)); err != nil {
		t.Fatal(err)
	}
	w, err := d.begin(t.Context(), frames)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.close() })
	return w
}

// predicted returns the noise that each branch predicts, in the memory of the process.
func (d *denoiser) predicted(t *testing.T, w *denoising, k int) (noise [][]float32) {
	t.Helper()
	list, err := d.predict(t.Context(), k, w.timesteps()[k], w)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list[0] {
		h, err := v.Host(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		noise = append(noise, slices.Clone(h.F32()))
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return noise
}

// skipSecond leaves OpenVINO, which compiles the UNet for seconds, to long runs: what is
// compared is computed by the same graphs, and which of them run is decided by Go code.
func skipSecond(t *testing.T, on sharedtest.Target) {
	t.Helper()
	if on.Name() == openvino.Name && !long() {
		t.Skip("ONNX Runtime shows the same; set " + backendtest.LongVariable + "=1")
	}
}

// TestSparing compares the switches that leave out passes of the UNet with settings that
// must compute the same.
func TestSparing(t *testing.T) {
	list, mask, noise := randomWindows(2)
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		skipSecond(t, on)
		d := sparer(t, on, mask, noise, func(*Options) {}) // compiled once
		plain := d.o
		result := func(set func(*Options)) [][][]float32 {
			d.o = plain
			set(&d.o)
			return d.must(t, list...)
		}
		exact := result(func(*Options) {})
		first := result(func(o *Options) { o.GuidanceTo = 0.25 })
		once := result(func(o *Options) { o.DeepCache = 4 })
		for _, c := range []struct {
			name string
			set  func(*Options)
			want [][][]float32
		}{
			{"guidance in all steps", func(o *Options) { o.GuidanceFrom, o.GuidanceTo, o.GuidanceThreshold = 0, 1, 1e-9 }, exact},
			{"guidance in the first step", func(o *Options) { o.GuidanceTo = 0.01 }, first},
			{"guidance until predictions agree, at once", func(o *Options) { o.GuidanceThreshold = 1 }, first},
			{"guidance in no step", func(o *Options) { o.GuidanceFrom, o.GuidanceTo = 0.5, 0.5 }, result(func(o *Options) { o.Guidance = 1 })},
			{"guidance every step", func(o *Options) { o.GuidanceEvery = 1 }, exact},
			{"guidance of every step, and of none after the first", func(o *Options) { o.GuidanceEvery, o.GuidanceTo = 4, 0.25 }, first},
			{"deep layers after any change", func(o *Options) { o.DeepCache, o.DeepCacheThreshold = 100, 1e-9 }, exact},
			{"deep layers after no change", func(o *Options) { o.DeepCache, o.DeepCacheThreshold = 100, 10 }, once},
			{"deep layers after no change, but every second step", func(o *Options) { o.DeepCache, o.DeepCacheThreshold = 2, 10 }, result(func(o *Options) { o.DeepCache = 2 })},
		} {
			if got := result(c.set); !equal(got, c.want) {
				t.Errorf("%s: other latents", c.name)
			}
		}
		if equal(exact, first) || equal(exact, once) {
			t.Error("a switch does nothing")
		}
		// What a window leaves out must not depend on those in flight beside it.
		adaptive := func(o *Options) { o.GuidanceThreshold, o.DeepCache, o.DeepCacheThreshold = 0.2, 100, 0.2 }
		together := result(adaptive)
		for i, w := range list {
			if alone := d.must(t, w); !equal(alone, together[i:i+1]) {
				t.Errorf("window %d depends on the other", i)
			}
		}
	})
}

// stepped compares the latents of a denoiser with those of DDIM steps that are made one by
// one. DeepCache is 3, and set changes the options further. combine turns the predictions of
// step k into the noise, in with; full predicts the half without the voice in a full pass.
func stepped(t *testing.T, steps int, set func(*Options), combine func(k int, with, without []float32, full func() []float32)) {
	list, mask, noise := randomWindows(1)
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		skipSecond(t, on)
		cache := func(o *Options) { o.DeepCache, o.Steps = 3, steps }
		got := sparer(t, on, mask, noise, func(o *Options) { cache(o); set(o) }).must(t, list...)
		// cached predicts both halves in each step; whole also makes full passes only.
		cached, whole := sparer(t, on, mask, noise, cache), sparer(t, on, mask, noise, func(o *Options) { o.Steps = steps })
		a, b := cached.begun(t, list[0].frames), whole.begun(t, list[0].frames)
		x := a.latents.(*hostLatents).x
		s, err := sampler.NewDDIM(steps)
		if err != nil {
			t.Fatal(err)
		}
		for k := range steps {
			eps := cached.predicted(t, a, k)
			combine(k, eps[0], eps[1], func() []float32 {
				copy(b.latents.(*hostLatents).x, x)
				return whole.predicted(t, b, k)[1]
			})
			s.Step(k, x, eps[0])
		}
		want := [][][]float32{{x[:len(noise)], x[len(noise):]}}
		if !equal(got, want) {
			t.Errorf("other latents, off by %v", golden.MaxAbs(slices.Concat(got[0]...), x))
		}
	})
}

// TestGuidanceInterval computes guidance in the last two of four steps step by step. The
// unconditional half begins between two full steps, and must be full itself then.
func TestGuidanceInterval(t *testing.T) {
	stepped(t, 4, func(o *Options) { o.GuidanceFrom = 0.5 }, func(k int, with, without []float32, full func() []float32) {
		if k < 2 {
			return
		}
		if k == 2 {
			without = full()
		}
		for i, u := range without {
			with[i] = u + 1.5*(with[i]-u)
		}
	})
}

// TestGuidanceEvery computes every second prediction without the voice step by step. In the
// last step, only the half without the voice is full: it was left out when the other was.
func TestGuidanceEvery(t *testing.T) {
	var voice []float32
	stepped(t, 5, func(o *Options) { o.GuidanceEvery = 2 }, func(k int, with, without []float32, full func() []float32) {
		if k%2 > 0 {
			for i, v := range voice {
				with[i] += 0.5 * v
			}
			return
		}
		if k == 4 {
			without = full()
		}
		voice = voice[:0]
		for i, u := range without {
			voice = append(voice, with[i]-u)
			with[i] = u + 1.5*voice[i]
		}
	})
}

// TestSparingOnDevice checks that a device whose latents would stay computes the same.
func TestSparingOnDevice(t *testing.T) {
	list, mask, noise := randomWindows(2)
	sharedtest.OnEach(t, func(t *testing.T, on sharedtest.Target) {
		if on.Name() != onnxruntime.Name || on.Precision != backend.F32 {
			t.Skip("no tensors stay on the device")
		}
		var results [2][][][]float32
		for i, resident := range []bool{false, true} {
			results[i] = sparer(t, on, mask, noise, func(o *Options) {
				o.Device.Resident, o.GuidanceTo, o.DeepCache, o.DeepCacheThreshold = resident, 0.5, 100, 0.2
			}).must(t, list...)
		}
		if !equal(results[0], results[1]) {
			t.Error("other latents")
		}
	})
}

func TestGuides(t *testing.T) {
	for _, c := range []struct {
		from, to float64
		steps    int
		want     []int // steps with guidance
	}{{0, 0, 3, []int{0, 1, 2}}, {0, 1, 3, []int{0, 1, 2}}, {0.2, 0.8, 5, []int{1, 2, 3}}, {0, 0.3, 10, []int{0, 1, 2}}, {0.5, 1, 4, []int{2, 3}}, {0.3, 0.3, 10, nil}} {
		o := Options{Guidance: 1.5, Steps: c.steps, GuidanceFrom: c.from, GuidanceTo: c.to}
		var got []int
		for k := range c.steps {
			if o.guides(k) {
				got = append(got, k)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: steps %v", c, got)
		}
	}
}
