package neural

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/network"
	"github.com/lipstream/lipstream/internal/settings"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestCheck checks the ranges that depend on other settings. Package settings checks the
// others.
func TestCheck(t *testing.T) {
	valid := Defaults()
	valid.Resolution, valid.RateNum, valid.RateDen = 256, 25, 1
	overlap := func(value, frames int) string {
		return fmt.Sprintf("`overlap`: %d is out of range for windows of %d frames; choose a value from 0 to half of `frames_per_window`", value, frames)
	}
	for _, c := range []struct {
		set  func(o *Options)
		want string // "" if it is allowed
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { *o = o.withParity(everything) }, ""},
		{func(o *Options) { o.Steps, o.Guidance, o.DeepCache, o.Plan.Frames, o.Overlap = 1, 1, 0, 1, 0 }, ""},
		{func(o *Options) { o.Steps, o.Guidance, o.DeepCache, o.Plan.Frames, o.Overlap = 100, 20, 100, 24, 12 }, ""},
		{func(o *Options) { o.Sampler, o.Seed, o.Resolution = DPM, -1, 512 }, ""},
		{func(o *Options) { o.Plan.Tile = 128 }, ""},
		{func(o *Options) { o.Overlap = -1 }, overlap(-1, 16)},
		{func(o *Options) { o.Overlap = 9 }, overlap(9, 16)},
		{func(o *Options) { o.Plan.Frames, o.Overlap = 1, 1 }, overlap(1, 1)},
		{func(o *Options) { o.Plan.Tile = 64 }, "`vae_tile`: 64 is too small; set it to 0 for whole frames, or to a multiple of 64 from 128"},
		{func(o *Options) { o.Sampler = "euler" }, "`sampler`: \"euler\" is not one of its values; choose one of ddim, dpm++"},
	} {
		o := valid
		c.set(&o)
		err, got := o.Check(), ""
		if err != nil {
			got = err.Error() + "; " + fault.HintOf(err)
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%s: kind %d", got, fault.KindOf(err))
			}
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestParity(t *testing.T) {
	o := Defaults()
	o.Speech, o.Quiet = func(float64) float64 { return 1 }, func(int64) bool { return true }
	o.Seed, o.Steps, o.Allowed = 5, 7, memory.Reductions{Windows: true, Frames: true, Tile: 256, Precision: "bf16"}
	p := o.withParity(everything)
	if p.Overlap != 0 || p.WhisperOverlap || p.Speech != nil || p.Quiet != nil || !p.Whole || !p.Short || !p.Sample || !p.IgnoreCuts || !p.NeedFace ||
		p.Allowed != (memory.Reductions{Windows: true}) {
		t.Errorf("%+v", p)
	}
	if p.Seed != 5 || p.Steps != 7 || o.Overlap != 4 || o.Speech == nil {
		t.Errorf("%+v made of %+v", p, o)
	}
	p = o.withParity([]string{"paste", "cuts"})
	if !p.Whole || !p.IgnoreCuts || p.NeedFace || p.Short || p.Sample || !p.WhisperOverlap || p.Speech == nil || p.Overlap != 4 || p.Allowed != o.Allowed {
		t.Errorf("paste and cuts: %+v", p)
	}
	for list, want := range map[string][]string{
		"": nil, "all": everything, "cuts,all": everything, "whisper,noise": {"whisper", "noise"}, "paste,cuts,faces": {"paste", "cuts", "faces"},
	} {
		if got, err := parseParity(list, latentSyncParity); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	for list, name := range map[string]string{"hum": `"hum"`, "cuts,": `""`, "all,hum": `"hum"`, "Cuts": `"Cuts"`} {
		_, err := parseParity(list, latentSyncParity)
		if fault.KindOf(err) != fault.Usage || !strings.HasPrefix(err.Error(), "`parity`: "+name) || !strings.Contains(fault.HintOf(err), "whisper, paste, noise, cuts, faces") {
			t.Errorf("%q: %v; %s", list, err, fault.HintOf(err))
		}
	}
}

// TestMuseTalkParity checks what each name changes.
func TestMuseTalkParity(t *testing.T) {
	usual := museTalkOptions(t)
	usual.Speech, usual.Quiet = func(float64) float64 { return 1 }, func(int64) bool { return true }
	usual.Allowed.Precision = "bf16"
	// state lists what may change.
	state := func(o Options) map[string]any {
		return map[string]any{
			"WhisperOverlap": o.WhisperOverlap, "Whole": o.Whole, "Speech": o.Speech != nil, "Quiet": o.Quiet != nil, "IgnoreCuts": o.IgnoreCuts,
			"NeedFace": o.NeedFace, "Short": o.Short, "Sample": o.Sample, "Tile": o.Allowed.Tile, "Precision": o.Allowed.Precision,
			"Frames": o.Allowed.Frames, "Windows": o.Allowed.Windows, "Overlap": o.Overlap, "Steps": o.Steps,
		}
	}
	for name, want := range map[string]map[string]any{
		"whisper": {"WhisperOverlap": false}, "paste": {"Whole": true}, "noise": {"Speech": false, "Quiet": false}, "cuts": {"IgnoreCuts": true}, "faces": {"NeedFace": true},
		"all": {
			"WhisperOverlap": false, "Whole": true, "Speech": false, "Quiet": false, "IgnoreCuts": true, "NeedFace": true,
			"Short": true, "Sample": true, "Tile": 0, "Precision": "",
		},
	} {
		names, err := parseParity(name, museTalk{}.parity())
		if err != nil {
			t.Fatal(err)
		}
		before := state(usual)
		for key, got := range state(usual.withParity(names)) {
			w, changes := want[key]
			if !changes {
				w = before[key]
			} else if w == before[key] {
				t.Errorf("%s: %s is %v without it", name, key, w)
			}
			if got != w {
				t.Errorf("%s: %s is %v, want %v", name, key, got, w)
			}
		}
	}
	if _, err := parseParity("hum", museTalk{}.parity()); fault.KindOf(err) != fault.Usage {
		t.Errorf("hum: %v", err)
	}
}

func TestAutoPrecision(t *testing.T) {
	for _, c := range []struct {
		device     backend.Device
		auto, half backend.Precision
	}{
		{backend.Device{ID: "cpu"}, backend.F32, backend.F32},
		{backend.Device{ID: "cpu", Half: backend.BF16}, backend.F32, backend.BF16},
		{backend.Device{ID: "cuda:0", Half: backend.F16}, backend.F16, backend.F16},
		{backend.Device{ID: "webgpu:0"}, backend.F32, backend.F32},
	} {
		if auto, half := autoPrecision(c.device, false), autoPrecision(c.device, true); auto != c.auto || half != c.half {
			t.Errorf("%s with %q: %s, for a profile in half precision %s", c.device.ID, c.device.Half, auto, half)
		}
	}
}

// everything lists the names for which all stands in the setting `parity`.
var everything = []string{"whisper", "paste", "noise", "cuts", "faces", "all"}

// unloaded is a backend that must not be used, because an error comes before.
type unloaded struct{ backend.Backend }

// write writes a checkpoint of zeros.
func write(t testing.TB, wants []checkpoint.Want) string {
	t.Helper()
	var specs []checkpoint.Spec
	for _, w := range wants {
		specs = append(specs, checkpoint.Spec{Name: w.Name, DType: tensor.F16, Shape: w.Shape})
	}
	return save(t, specs, func(i int, w io.Writer) error {
		_, err := w.Write(make([]byte, 2*tensor.Volume(specs[i].Shape)))
		return err
	})
}

// spoil writes a copy of a checkpoint in which the first value of a tensor is not a number.
func spoil(t testing.TB, path, name string) string {
	t.Helper()
	f := openPath(t, path)
	if f.Tensor(name) == nil {
		t.Fatalf("%s has no %s", path, name)
	}
	var specs []checkpoint.Spec
	for _, n := range f.Names() {
		v := f.Tensor(n)
		specs = append(specs, checkpoint.Spec{Name: n, DType: v.DType, Shape: v.Shape})
	}
	return save(t, specs, func(i int, w io.Writer) error {
		data := append([]byte(nil), f.Tensor(specs[i].Name).Data...)
		if specs[i].Name == name {
			for k := range specs[i].DType.Size() {
				data[k] = 0xff
			}
		}
		_, err := w.Write(data)
		return err
	})
}

func save(t testing.TB, specs []checkpoint.Spec, fill func(i int, w io.Writer) error) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := checkpoint.WriteSafetensors(out, nil, specs, fill); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// TestWrongCheckpoints checks that errors name the wrong checkpoint and the cause.
func TestWrongCheckpoints(t *testing.T) {
	whisper := func(c network.WhisperConfig) string { return write(t, network.WhisperWants(c)) }
	vae := func(c network.VAEConfig) string { return write(t, network.VAEWants(c)) }
	text := filepath.Join(t.TempDir(), "text.pt")
	if err := os.WriteFile(text, []byte("<!DOCTYPE html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  func(o *Options) (file string)
		want string
	}{
		{func(o *Options) string {
			o.Files.Whisper = whisper(network.WhisperConfig{Mels: 80, Context: 1500, State: 128, Heads: 2, Layers: 1})
			return o.Files.Whisper
		}, "its features are 128 wide, but the UNet takes 64"},
		{func(o *Options) string {
			o.Files.Whisper = whisper(network.WhisperConfig{Mels: 128, Context: 1500, State: 64, Heads: 1, Layers: 1})
			return o.Files.Whisper
		}, "it takes 128 frequency bands, but the UNet was trained with 80"},
		{func(o *Options) string {
			o.Files.VAE = vae(network.VAEConfig{Channels: []int{32, 32, 32, 32}, Layers: 1, Latent: 8})
			return o.Files.VAE
		}, "its latents have 8 channels, but the UNet takes 4"},
		{func(o *Options) string {
			o.Files.VAE = vae(network.VAEConfig{Channels: []int{32, 32, 32, 32, 32}, Layers: 1, Latent: 4})
			o.Resolution = 64
			return o.Files.UNet
		}, "its levels do not divide 64 pixels"},
		{func(o *Options) string {
			o.Files.UNet = write(t, network.UNetWants(network.UNetConfig{Channels: []int{32, 32}, Layers: 1, In: 13, Out: 4, AudioDim: 64, Heads: 8, Positions: 12}))
			return o.Files.UNet
		}, "its positional encoding takes 12 frames, but the window has 16"},
		{func(o *Options) string { o.Files.UNet = tinyFiles.VAE; return o.Files.UNet }, "not a LatentSync UNet"},
		{func(o *Options) string { o.Files.VAE = tinyFiles.Whisper; return o.Files.VAE }, "not a VAE: it has"},
		{func(o *Options) string { o.Files.Whisper = tinyFiles.UNet; return o.Files.Whisper }, "not a Whisper checkpoint"},
		{func(o *Options) string { o.Files.UNet = text; return o.Files.UNet }, ""},
		{func(o *Options) string { o.Files.VAE = text + ".missing"; return o.Files.VAE }, "no such file"},
	} {
		o := Defaults()
		o.Backend, o.Files, o.Resolution, o.RateNum, o.RateDen = unloaded{}, tinyFiles, 128, 25, 1
		file := c.set(&o)
		_, err := New(t.Context(), o)
		if err == nil {
			t.Errorf("%s is accepted", file)
			continue
		}
		t.Logf("%v; %s", err, fault.HintOf(err))
		if kind := fault.KindOf(err); kind != fault.Input && kind != fault.Missing || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), c.want) || fault.HintOf(err) == "" {
			t.Errorf("%s, want an error that names it with %q and a hint: got %v of kind %d, hint %q", file, c.want, err, kind, fault.HintOf(err))
		}
	}
}

// TestLatentSyncSettings checks what settings and profile set together, and the warnings
// about those without an effect.
func TestLatentSyncSettings(t *testing.T) {
	const threshold, guided = "`deepcache_threshold` has no effect", " has no effect without guidance"
	for _, c := range []struct {
		name, profile string
		s             settings.LatentSync
		guidance      float64
		deepCache     int
		sparing       bool
		warnings      []string // how they begin
	}{
		{"nothing", "auto", settings.LatentSync{}, 1.5, 3, false, nil},
		{"guidance_to 0", "auto", settings.LatentSync{GuidanceTo: new(0.0)}, 1, 3, false, nil},
		{"guidance_to 0 with guidance", "auto", settings.LatentSync{GuidanceTo: new(0.0), Guidance: new(3.0)}, 1, 3, false, nil},
		{"guidance_to 1", "speed", settings.LatentSync{GuidanceTo: new(1.0)}, 1, 3, false, nil},
		{"a range", "auto", settings.LatentSync{GuidanceFrom: new(0.2), GuidanceTo: new(0.8)}, 1.5, 3, true, nil},
		{"a range without guidance", "speed", settings.LatentSync{GuidanceFrom: new(0.2), GuidanceTo: new(0.8)}, 1, 3, false, []string{"`guidance_from`" + guided, "`guidance_to`" + guided}},
		{"guidance_threshold", "auto", settings.LatentSync{GuidanceThreshold: new(0.1)}, 1.5, 3, true, nil},
		{"guidance_threshold without guidance", "auto", settings.LatentSync{GuidanceThreshold: new(0.1), Guidance: new(1.0)}, 1, 3, false, []string{"`guidance_threshold`" + guided}},
		{"guidance_every", "auto", settings.LatentSync{GuidanceEvery: new(6)}, 1.5, 3, true, nil},
		{"guidance_every without guidance", "speed", settings.LatentSync{GuidanceEvery: new(6)}, 1, 3, false, []string{"`guidance_every`" + guided}},
		{"guidance_every 1", "auto", settings.LatentSync{GuidanceEvery: new(1)}, 1.5, 3, false, nil},
		{"deepcache_threshold", "auto", settings.LatentSync{DeepCacheThreshold: new(0.1)}, 1.5, 3, true, nil},
		{"deepcache_threshold with quality", "quality", settings.LatentSync{DeepCacheThreshold: new(0.1)}, 1.5, 1, false, []string{threshold}},
		{"deepcache_threshold with quality and deepcache", "quality", settings.LatentSync{DeepCacheThreshold: new(0.1), DeepCache: new(4)}, 1.5, 4, true, nil},
	} {
		o := Defaults()
		latentSync{}.set(&o, settings.Settings{LatentSync: c.s}, findProfile(c.profile))
		got := o.unused(c.s)
		if o.Guidance != c.guidance || o.DeepCache != c.deepCache || o.sparing() != c.sparing || !slices.EqualFunc(got, c.warnings, strings.HasPrefix) {
			t.Errorf("%s: guidance %v, deepcache %d, sparing %v, warnings %q", c.name, o.Guidance, o.DeepCache, o.sparing(), got)
		}
		o.Device.Resident = true
		if o.resident() == c.sparing {
			t.Errorf("%s: latents stay on the device: %v", c.name, o.resident())
		}
	}
}
