package latentsync

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/latentsync/network"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/tensor"
)

func TestCheck(t *testing.T) {
	valid := Defaults()
	valid.Resolution, valid.RateNum, valid.RateDen = 256, 25, 1
	outOf := func(name string, value any, least, most int, hint string) string {
		return fmt.Sprintf("`%s`: %v is out of range; set `%s` to at least %d and at most %d; %s", name, value, name, least, most, hint)
	}
	guidance := func(value string) string {
		return "`guidance`: " + value + " is out of range; set `guidance` to at least 1 and at most 20; 1.5 is usual, 1 takes half the time"
	}
	const steps, deepcache, trained = "20 is usual", "1 does every step in full, 3 is usual", "the checkpoints were trained with 16"
	const versions = "LatentSync 1.5 takes 256, LatentSync 1.6 takes 512"
	shared := func(frames int) string {
		return fmt.Sprintf("`frames_per_window` is %d, and windows may share half of that", frames)
	}
	for _, c := range []struct {
		set  func(o *Options)
		want string // "" for what is allowed
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { *o = o.WithParity(everything) }, ""},
		{func(o *Options) { o.Steps, o.Guidance, o.DeepCache, o.Plan.Frames, o.Overlap = 1, 1, 0, 1, 0 }, ""},
		{func(o *Options) { o.Steps, o.Guidance, o.DeepCache, o.Plan.Frames, o.Overlap = 100, 20, 100, 24, 12 }, ""},
		{func(o *Options) { o.Sampler, o.Seed, o.Resolution = DPM, -1, 512 }, ""},
		{func(o *Options) { o.Steps = 0 }, outOf("steps", 0, 1, 100, steps)},
		{func(o *Options) { o.Steps = 101 }, outOf("steps", 101, 1, 100, steps)},
		{func(o *Options) { o.Guidance = 0.9 }, guidance("0.9")},
		{func(o *Options) { o.Guidance = 20.1 }, guidance("20.1")},
		{func(o *Options) { o.Guidance = math.NaN() }, guidance("NaN")},
		{func(o *Options) { o.DeepCache = -1 }, outOf("deepcache", -1, 0, 100, deepcache)},
		{func(o *Options) { o.DeepCache = 101 }, outOf("deepcache", 101, 0, 100, deepcache)},
		{func(o *Options) { o.Plan.Frames = 0 }, outOf("frames_per_window", 0, 1, 24, trained)},
		{func(o *Options) { o.Plan.Frames = 25 }, outOf("frames_per_window", 25, 1, 24, trained)},
		{func(o *Options) { o.Overlap = -1 }, outOf("overlap", -1, 0, 8, shared(16))},
		{func(o *Options) { o.Overlap = 9 }, outOf("overlap", 9, 0, 8, shared(16))},
		{func(o *Options) { o.Plan.Frames, o.Overlap = 1, 1 }, outOf("overlap", 1, 0, 0, shared(1))},
		{func(o *Options) { o.Plan.Windows = 17 }, outOf("windows", 17, 1, 16, "if it is not set, it follows the memory")},
		{func(o *Options) { o.Plan.VAEFrames = 0 }, outOf("vae_frames", 0, 1, 16, "more take more memory")},
		{func(o *Options) { o.Plan.Slices = 0 }, outOf("attention_slices", 0, 1, 16, "1 computes an attention at once")},
		{func(o *Options) { o.Plan.Tile = 100 }, "`vae_tile`: 100 is not a size of tiles; set `vae_tile` to 0 for whole pictures, or to a multiple of 64 from 128"},
		{func(o *Options) { o.Plan.Offload = "disk" }, "`offload`: \"disk\" is not known; set `offload` to one of none, model, sequential"},
		{func(o *Options) { o.Silence = "hum" }, "`silence`: \"hum\" is not known; set `silence` to one of speak, hold, pass"},
		{func(o *Options) { o.ShrinkEvery = -1 }, "`shrink_every`: -1 is out of range; set `shrink_every` to at least 0; 0 is never, 2 is usual"},
		{func(o *Options) { o.ReturnEvery = -1 }, "`return_every`: -1 is out of range; set `return_every` to at least 0; 0 is never, 3 is usual"},
		{func(o *Options) { o.Resolution = 0 }, outOf("resolution", 0, 64, 1024, versions)},
		{func(o *Options) { o.Resolution = 300 }, "`resolution`: 300 is not a multiple of 64; " + versions},
		{func(o *Options) { o.Resolution = 2048 }, outOf("resolution", 2048, 64, 1024, versions)},
		{func(o *Options) { o.RateNum = 0 }, "set up latentsync: the frame rate is missing; "},
		{func(o *Options) { o.RateDen = -1 }, "set up latentsync: the frame rate is missing; "},
		{func(o *Options) { o.Sampler = "euler" }, "`sampler`: \"euler\" is not known; set `sampler` to one of ddim, dpm++"},
	} {
		o := valid
		c.set(&o)
		err, got := o.Check(), ""
		if err != nil {
			got = err.Error() + "; " + fault.HintOf(err)
			kind := fault.Usage
			if strings.HasPrefix(got, "set up") {
				kind = fault.Internal
			}
			if fault.KindOf(err) != kind {
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
	o.Seed, o.Steps, o.Allowed = 5, 7, memory.Reductions{Windows: true, Frames: true, Tile: 256, Precision: "bf16"}
	p := o.WithParity(everything)
	if p.Overlap != 0 || p.Allowed != (memory.Reductions{Windows: true}) || p.Seed != 5 || p.Steps != 7 || o.Overlap != 4 {
		t.Errorf("%+v made of %+v", p, o)
	}
	for list, want := range map[string]Parity{
		"":                    {},
		"all":                 everything,
		"cuts,all":            everything,
		"whisper, noise":      {Whisper: true, Noise: true},
		"paste,cuts,faces":    {Paste: true, Cuts: true, Faces: true},
		"faces,faces,whisper": {Faces: true, Whisper: true},
	} {
		got, err := ParseParity(list)
		if err != nil || got != want || got.All() != (want == everything) {
			t.Errorf("%q: %+v, %v", list, got, err)
		}
	}
	for list, name := range map[string]string{"hum": `"hum"`, "cuts,": `""`, "all,hum": `"hum"`, "Cuts": `"Cuts"`} {
		got, err := ParseParity(list)
		if fault.KindOf(err) != fault.Usage || !strings.HasPrefix(err.Error(), "`parity`: ") || !strings.Contains(err.Error(), name+" is not known") ||
			!strings.Contains(fault.HintOf(err), "whisper, paste, noise, cuts, faces") || got != (Parity{}) {
			t.Errorf("%q: %+v, %v; %s", list, got, err, fault.HintOf(err))
		}
	}
}

// everything is what the setting `parity` means by all.
var everything = Parity{Whisper: true, Paste: true, Noise: true, Cuts: true, Faces: true, Short: true, Sample: true, Plan: true}

// unloaded is a backend that must not be used: what it is given with is
// refused before.
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

// spoil writes a copy of a checkpoint with the first value of a tensor not a
// number.
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

// TestWrongCheckpoints: each is named, with what is wrong about it.
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
		}, "its features are 128 wide, the UNet takes 64"},
		{func(o *Options) string {
			o.Files.Whisper = whisper(network.WhisperConfig{Mels: 128, Context: 1500, State: 64, Heads: 1, Layers: 1})
			return o.Files.Whisper
		}, "it listens to 128 bands of frequencies, LatentSync to 80"},
		{func(o *Options) string {
			o.Files.VAE = vae(network.VAEConfig{Channels: []int{32, 32, 32, 32}, Layers: 1, Latent: 8})
			return o.Files.VAE
		}, "its latents have 8 channels, the UNet takes 4"},
		{func(o *Options) string {
			o.Files.VAE = vae(network.VAEConfig{Channels: []int{32, 32, 32, 32, 32}, Layers: 1, Latent: 4})
			o.Resolution = 64
			return o.Files.UNet
		}, "its levels do not divide 64 pixels"},
		{func(o *Options) string {
			o.Files.UNet = write(t, network.UNetWants(network.UNetConfig{Channels: []int{32, 32}, Layers: 1, In: 13, Out: 4, AudioDim: 64, Heads: 8, Positions: 12}))
			return o.Files.UNet
		}, "its positional encoding takes 12 frames, the window has 16"},
		{func(o *Options) string { o.Files.UNet = tinyFiles.VAE; return o.Files.UNet }, "not a LatentSync UNet"},
		{func(o *Options) string { o.Files.VAE = tinyFiles.Whisper; return o.Files.VAE }, "not a VAE in the layout of diffusers"},
		{func(o *Options) string { o.Files.Whisper = tinyFiles.UNet; return o.Files.Whisper }, "not a Whisper checkpoint"},
		{func(o *Options) string { o.Files.UNet = text; return o.Files.UNet }, ""},
		{func(o *Options) string { o.Files.VAE = text + ".missing"; return o.Files.VAE }, "no such file"},
	} {
		o := Defaults()
		o.Backend, o.Files, o.Resolution, o.RateNum, o.RateDen = unloaded{}, tinyFiles, 128, 25, 1
		file := c.set(&o)
		_, err := New(t.Context(), o)
		if err == nil {
			t.Errorf("%s is taken", file)
			continue
		}
		t.Logf("%v; %s", err, fault.HintOf(err))
		if kind := fault.KindOf(err); kind != fault.Input && kind != fault.Missing || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), c.want) || fault.HintOf(err) == "" {
			t.Errorf("%s, want an error that names it with %q and a hint: got %v of kind %d, hint %q", file, c.want, err, kind, fault.HintOf(err))
		}
	}
}
