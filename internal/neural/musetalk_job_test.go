package neural

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/frame"
	"github.com/lipstream/lipstream/internal/lip"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
)

// nodding returns frames from..to-1 of a face that nods, so that no two neighbours have the
// same crop.
func nodding(picture *frame.Frame, fc *face.Face, from, to int64) (items []lip.Item) {
	for i := from; i < to; i++ {
		items = append(items, shotOf(picture, fc, i, i+1, float64(i%5))...)
	}
	return items
}

// TestMuseTalkBatches checks that it hardly matters how many frames and windows the UNet
// gets at a time: values are rounded differently, so frames may differ by one level.
func TestMuseTalkBatches(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		const frames = 5
		run := func(size, windows int, batched bool) []lip.Item {
			o := quickMuseTalk(t, b)
			o.Plan.Frames, o.Plan.Windows, o.Batched = size, windows, batched
			e, items := open(t, o), nodding(picture, fc, 0, frames)
			if want := size*windows - 1; e.Hold() != want {
				t.Errorf("Hold is %d, want %d", e.Hold(), want)
			}
			process(t, e, items)
			return items
		}
		base := run(1, 1, false)
		for i, it := range nodding(picture, fc, 0, frames) {
			if most, _ := apart(base[i:i+1], []lip.Item{it}); most < 10 {
				t.Errorf("frame %d is hardly changed: %d", i, most)
			}
		}
		for _, c := range []struct {
			size, windows int
			batched       bool
		}{{2, 1, false}, {4, 1, false}, {8, 1, false}, {16, 1, false}, {2, 2, true}} {
			if most, ratio := apart(run(c.size, c.windows, c.batched), base); most > 1 {
				t.Errorf("%+v: frames differ by %d levels, %.1f dB", c, most, ratio)
			}
		}
	})
}

// TestMuseTalkPart checks that a part of a job, which begins 24 frames before its own first
// frame, has the frames of the whole job. Those before do not need to be generated.
func TestMuseTalkPart(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		const first, frames = 40, 43
		o := quickMuseTalk(t, b)
		o.Silence, o.Quiet = SilencePass, func(i int64) bool { return i < first }
		whole, part := nodding(picture, fc, 0, frames), nodding(picture, fc, first-24, frames)
		process(t, open(t, o), whole)
		process(t, open(t, o), part)
		if most, _ := apart(part[24:], whole[first:]); most != 0 {
			t.Errorf("frames differ by %d", most)
		}
	})
}

// TestMuseTalkIsCancelled cancels a job in the middle of the UNet, and checks that the
// engine closes cleanly.
func TestMuseTalkIsCancelled(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		for _, offload := range []memory.Offload{memory.OffloadNone, memory.OffloadSequential} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			runs, last := 0, 0
			o := quickMuseTalk(t, b)
			o.Plan.Offload = offload
			o.Backend = watched{b, func() {
				if runs++; runs == 8 { // after Whisper, four of the encoder, and two graphs of the UNet
					cancel()
				}
				last = runs
			}}
			e := open(t, o)
			err := pushAll(ctx, e, nodding(picture, fc, 0, 4))
			if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Cancelled || last != 8 {
				t.Errorf("offload %s: %v, %d runs", offload, err, last)
			}
			if calls(e, workWindow) != 0 || calls(e, workEncoder) != 4 {
				t.Errorf("offload %s: %d windows, the encoder ran %d times", offload, calls(e, workWindow), calls(e, workEncoder))
			}
			if _, err := e.Flush(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("offload %s: Flush: %v", offload, err)
			}
			if err := errors.Join(e.Close(), e.Close()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestEqualCrops counts the calls of the encoder, two for each frame: those of a still
// picture are encoded once, unless latents are random.
func TestEqualCrops(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		still := func() []lip.Item { return shotOf(picture, fc, 0, 4, 3) }
		cut := func() []lip.Item { items := still(); items[2].Cut = true; return items }
		there := func() []lip.Item { // to another place and back
			return slices.Concat(shotOf(picture, fc, 0, 1, 3), shotOf(picture, fc, 1, 3, 9), shotOf(picture, fc, 3, 4, 3))
		}
		for _, c := range []struct {
			name   string
			items  func() []lip.Item
			sample bool
			want   int64
		}{
			{"a still picture", still, false, 2}, {"a still picture with a cut", cut, false, 2},
			{"a still picture, sampled", still, true, 8}, {"every frame differs", func() []lip.Item { return nodding(picture, fc, 0, 4) }, false, 8},
			{"there and back", there, false, 6},
		} {
			o := job(t, b)
			o.Sample, o.Plan.Frames, o.Overlap, o.Steps, o.Guidance = c.sample, 2, 0, 1, 1
			if o.recipe == recipe(museTalk{}) {
				// The place of a box depends on the frames before.
				o.Whole = true
			}
			e, items := open(t, o), c.items()
			process(t, e, items)
			if got := calls(e, workEncoder); got != c.want {
				t.Errorf("%s: the encoder ran %d times, want %d", c.name, got, c.want)
			}
			if c.sample {
				continue
			}
			e.painter.encoded = nil
			last := c.items()[2:]
			process(t, e, last)
			if most, _ := apart(items[2:], last); most != 0 {
				t.Errorf("%s: the last frames differ by %d from those that are encoded by themselves", c.name, most)
			}
		}
	})
}

// TestTAESD runs jobs with the tiny autoencoder or its decoder, from one file and from two.
func TestTAESD(t *testing.T) {
	picture, fc := portrait(t)
	const folder = "../../testdata/taesd/"
	layouts := [][]string{{"diffusion_pytorch_model.safetensors"}, {"taesd_encoder.safetensors", "taesd_decoder.safetensors"}}
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		o := job(t, b)
		o.Steps, o.Guidance = 1, 1
		o.Files.VAE, o.Files.Decoder = tinyFiles.VAE, ""
		run := func(vae string, taesd ...string) ([]lip.Item, *Engine) {
			o := o
			if err := o.Files.setVAE(vae, "models", installed(t, o, taesd)); err != nil {
				t.Fatalf("%s, %v: %v", vae, taesd, err)
			}
			e, items := open(t, o), shotOf(picture, fc, 0, 2, 3)
			process(t, e, items)
			return items, e
		}
		full, e := run("full")
		if !e.painter.configs.encoder.Samples {
			t.Error("the full VAE is not the full VAE")
		}
		for _, vae := range []string{vaeTiny, vaeTinyDecoder} {
			var first []lip.Item
			for _, names := range layouts {
				var paths []string
				for _, name := range names {
					paths = append(paths, folder+name)
				}
				got, e := run(vae, paths...)
				c := e.painter.configs
				if c.encoder.Samples != (vae == vaeTinyDecoder) || c.decoder.Samples {
					t.Errorf("%s, %v: the encoder is the full one: %v, the decoder %v", vae, names, c.encoder.Samples, c.decoder.Samples)
				}
				if first == nil {
					first = got
					if most, _ := apart(first, full); most < 10 {
						t.Errorf("%s: frames differ by %d from those of the full VAE", vae, most)
					}
				}
				if most, _ := apart(got, first); most != 0 {
					t.Errorf("%s: files in another layout change frames by %d", vae, most)
				}
			}
		}
		for _, c := range []struct {
			vae   string
			taesd []string
			want  string
		}{
			{vaeTiny, nil, "find TAESD in models: it is not installed"},
			{vaeTinyDecoder, nil, "find TAESD in models: it is not installed"},
			{vaeTiny, []string{"taesd_decoder.safetensors"}, "find TAESD in models: its encoder is not installed"},
			{vaeTiny, []string{"taesd_encoder.safetensors"}, "find TAESD in models: its decoder is not installed"},
			{vaeTinyDecoder, []string{"taesd_encoder.safetensors"}, "find TAESD in models: its decoder is not installed"},
			{vaeTinyDecoder, []string{"taesd_decoder.safetensors"}, ""},
		} {
			files, got := o.Files, ""
			if err := files.setVAE(c.vae, "models", installed(t, o, c.taesd)); err != nil {
				got = err.Error()
				if fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "models pull taesd") {
					t.Errorf("%s, %v: kind %v, hint %q", c.vae, c.taesd, fault.KindOf(err), fault.HintOf(err))
				}
			}
			if got != c.want {
				t.Errorf("%s, %v: %q, want %q", c.vae, c.taesd, got, c.want)
			}
		}
		// A file with the wrong half.
		for want, set := range map[string]func(f *Files){
			"it has no encoder": func(f *Files) { f.VAE = folder + "taesd_decoder.safetensors" },
			"it has no decoder": func(f *Files) { f.Decoder = folder + "taesd_encoder.safetensors" },
		} {
			o := o
			set(&o.Files)
			if _, err := New(t.Context(), o); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
				t.Errorf("%v, want %q and a hint", err, want)
			}
		}
	})
}

// installed returns the set of a models folder with files of TAESD under their own names.
func installed(t *testing.T, o Options, taesd []string) models.Set {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"vae/diffusion_pytorch_model.safetensors": tinyFiles.VAE, "whisper/tiny.pt": tinyFiles.Whisper}
	engine := models.Engine(o.recipe.name())
	unet := map[models.Engine]string{models.LatentSync: "latentsync_unet.pt", models.MuseTalk: "musetalkV15/unet.pth"}[engine]
	files[unet] = o.Files.UNet
	for _, path := range taesd {
		files["taesd/"+filepath.Base(path)] = filepath.Join("../../testdata/taesd", filepath.Base(path))
	}
	for name, from := range files {
		to := filepath.Join(dir, name)
		from, err := filepath.Abs(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.Symlink(from, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	set, err := models.Find(dir, engine)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// counting is a backend that counts the sessions of the UNet's graphs.
type counting struct {
	backend.Backend
	loads, open, most int
}

func (c *counting) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	s, err := c.Backend.Load(ctx, m, o)
	if err != nil || strings.Contains(m.Name, "coder") || strings.Contains(m.Name, "whisper") {
		return s, err
	}
	c.loads++
	c.open++
	c.most = max(c.most, c.open)
	return countedSession{s, c}, nil
}

type countedSession struct {
	backend.Session
	c *counting
}

func (s countedSession) Close() error {
	s.c.open--
	return s.Session.Close()
}

// TestStreaming checks that with offload sequential all windows in flight share the loading
// of a graph, and which graphs stay loaded: LatentSync's first and last, none of MuseTalk's.
func TestStreaming(t *testing.T) {
	picture, fc := portrait(t)
	onOneEngine(t, func(t *testing.T, b *backendtest.Cached, job jobOptions) {
		c := &counting{Backend: b}
		o := job(t, c)
		o.Plan.Frames, o.Overlap, o.Steps, o.Guidance = 2, 0, 1, 1
		o.Plan.Offload, o.Plan.Windows = memory.OffloadSequential, 3
		e := open(t, o)
		graphs, err := o.recipe.graphs(e.painter.configs, o, 1, 2, nil, o.target(planned(o.Plan), o.Plan))
		if err != nil {
			t.Fatal(err)
		}
		kept := 0
		for i := range graphs {
			if !o.recipe.streamed(i, len(graphs)) {
				kept++
			}
		}
		open := 0 // while the decoder runs, no graph of another network may be loaded
		e.networks.o.Backend = watched{c, func() { open = max(open, c.open) }}
		process(t, e, shotOf(picture, fc, 0, 6, 3))
		if calls(e, workWindow) != 3 || c.loads != len(graphs) || c.most != kept+1 || open > kept+1 {
			t.Errorf("%d windows: %d graphs were loaded %d times, at most %d at once; want %d at once", calls(e, workWindow), len(graphs), c.loads, c.most, kept+1)
		}
		if want := map[string]int{"latentsync": 2}[o.recipe.name()]; kept != want {
			t.Errorf("%d graphs stay loaded, want %d", kept, want)
		}
		f := needs{configs: e.painter.configs, o: o, known: map[string]footprint{}}.unet(o.Plan)
		if f.keptGraphs != kept || (f.kept > 0) != (kept > 0) || f.kept >= f.weights {
			t.Errorf("%d graphs of %d bytes stay loaded by the estimate, of %d", f.keptGraphs, f.kept, f.weights)
		}
	})
}

// TestMuseTalkDamagedWeights checks that a UNet whose output is not a number ends the job.
func TestMuseTalkDamagedWeights(t *testing.T) {
	picture, fc := portrait(t)
	onOne(t, func(t *testing.T, b *backendtest.Cached) {
		for tensor, c := range map[string]struct {
			file func(*Options) *string
			want string
		}{
			"conv_out.bias":                 {func(o *Options) *string { return &o.Files.UNet }, "generate frame 7: the network returned NaN"},
			"encoder.layers.0.bias":         {func(o *Options) *string { return &o.Files.VAE }, "encode the face: the network returned NaN"},
			"decoder.layers.18.bias":        {func(o *Options) *string { return &o.Files.Decoder }, "decode the face: the network returned NaN"},
			"encoder.blocks.0.attn_ln.bias": {func(o *Options) *string { return &o.Files.Whisper }, "listen with Whisper: the network returned NaN"},
		} {
			o := quickMuseTalk(t, b)
			path := c.file(&o)
			*path = spoil(t, *path, tensor)
			err := pushAll(t.Context(), open(t, o), shotOf(picture, fc, 7, 9, 0))
			if err == nil || err.Error() != c.want || !strings.Contains(fault.HintOf(err), "models check --deep") {
				t.Errorf("%s: %v, hint %q; want %s", tensor, err, fault.HintOf(err), c.want)
			}
		}
	})
}

// TestMuseTalkResolution checks the error for another resolution than MuseTalk's.
func TestMuseTalkResolution(t *testing.T) {
	o := quickMuseTalk(t, unloaded{})
	o.Resolution = 512
	_, err := New(t.Context(), o)
	if want := fmt.Sprintf("MuseTalk's images have %d pixels, not 512", 256); fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}
