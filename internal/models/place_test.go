package models

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// touch creates files in a folder and returns their paths.
func touch(t *testing.T, dir string, names ...string) (paths []string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(dir, filepath.FromSlash(n))
		writeFile(t, path, "x")
		paths = append(paths, path)
	}
	return paths
}

// wantSet compares the UNet, Whisper and the VAE that Find returns.
func wantSet(t *testing.T, dir string, e Engine, want []string) Set {
	t.Helper()
	s, err := Find(dir, e)
	if got := []string{s.UNet, s.Whisper, s.VAE}; err != nil || !slices.Equal(got, want) {
		t.Errorf("found %q, want %q; %v", got, want, err)
	}
	return s
}

// ownPlaces gives a test its own folders instead of all that are searched by default, and
// returns the models folder and the home folder.
func ownPlaces(t *testing.T) (dir, home string) {
	t.Helper()
	home = ownCache(t)
	t.Setenv("USERPROFILE", home)
	t.Setenv("HF_HOME", "")
	t.Setenv("HF_HUB_CACHE", "")
	t.Setenv(PathVariable, "")
	dir = filepath.Join(home, "own")
	t.Setenv("LIPSTREAM_MODELS_DIR", dir)
	return dir, home
}

// TestComfyUIFolders has the layouts of ComfyUI's nodes.
func TestComfyUIFolders(t *testing.T) {
	for name, c := range map[string]struct {
		engine Engine
		files  []string // the UNet, Whisper and the VAE
		found  string
	}{
		"ComfyUI-LatentSyncWrapper": {LatentSync, []string{
			"custom_nodes/ComfyUI-LatentSyncWrapper/checkpoints/latentsync_unet.pt",
			"custom_nodes/ComfyUI-LatentSyncWrapper/checkpoints/whisper/tiny.pt",
			"custom_nodes/ComfyUI-LatentSyncWrapper/checkpoints/vae/diffusion_pytorch_model.safetensors",
		}, "ComfyUI-LatentSyncWrapper"},
		"from the registry, with the VAE of other nodes": {LatentSync, []string{
			"custom_nodes/comfyui-latentsyncwrapper/checkpoints/latentsync_unet.pt",
			"custom_nodes/comfyui-latentsyncwrapper/checkpoints/whisper/tiny.pt",
			"models/vae/vae-ft-mse-840000-ema-pruned.safetensors",
		}, "comfyui-latentsyncwrapper"},
		"disabled by ComfyUI-Manager": {LatentSync, []string{
			"custom_nodes/.disabled/comfyui-latentsyncwrapper@1_0_0/checkpoints/latentsync_unet.pt",
			"custom_nodes/.disabled/comfyui-latentsyncwrapper@1_0_0/checkpoints/whisper/tiny.pt",
			"custom_nodes/.disabled/comfyui-latentsyncwrapper@1_0_0/checkpoints/vae/sd-vae-ft-mse.safetensors",
		}, "comfyui-latentsyncwrapper@1_0_0"},
		"linked into models": {LatentSync, []string{
			"models/latentsync/latentsync_unet.pt", "models/latentsync/whisper/tiny.pt", "models/vae/sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
		}, "latentsync"},
		"ComfyUI-MuseTalk": {MuseTalk, []string{
			"models/diffusers/TMElyralab/MuseTalk/musetalk/pytorch_model.bin",
			"models/diffusers/TMElyralab/MuseTalk/whisper/tiny.pt",
			"models/diffusers/TMElyralab/MuseTalk/sd-vae-ft-mse/diffusion_pytorch_model.bin",
		}, "MuseTalk"},
		"ComfyUI-MuseTalk_FSH": {MuseTalk, []string{
			"custom_nodes/ComfyUI-MuseTalk_FSH/models/musetalk/pytorch_model.bin",
			"custom_nodes/ComfyUI-MuseTalk_FSH/models/whisper/tiny.pt",
			"custom_nodes/ComfyUI-MuseTalk_FSH/models/sd-vae-ft-mse/diffusion_pytorch_model.bin",
		}, "ComfyUI-MuseTalk_FSH"},
		"ComfyUI-MuseTalk-KJ": {MuseTalk, []string{
			"models/musetalk/musetalk/pytorch_model.bin",
			"custom_nodes/ComfyUI-MuseTalk-KJ/musetalk/whisper/checkpoints/tiny.pt",
			"models/diffusers/stabilityai/sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
		}, "musetalk"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := ownPlaces(t)
			portable := filepath.Join(t.TempDir(), "ComfyUI windows portable ü")
			root := filepath.Join(portable, "ComfyUI")
			if err := os.MkdirAll(filepath.Join(root, "custom_nodes"), 0o755); err != nil {
				t.Fatal(err)
			}
			want := touch(t, root, c.files...)
			// Names that other networks have as well.
			touch(t, root, "models/vae/diffusion_pytorch_model.safetensors", "models/unet.pth", "models/whisper/model.safetensors",
				"models/diffusers/unet.safetensors", "custom_nodes/another/checkpoints/latentsync_unet.pt")
			wantSet(t, root, c.engine, want)
			wantSet(t, portable, c.engine, want)
			if installed(dir, c.engine) {
				t.Fatal("found without " + PathVariable)
			}
			t.Setenv(PathVariable, strings.Join([]string{"relative", t.TempDir(), portable}, string(os.PathListSeparator)))
			wantSet(t, dir, c.engine, want)
			for _, r := range List(t.Context(), dir) {
				if r.Path == want[0] && r.Found == c.found {
					return
				}
			}
			t.Errorf("List does not name %s: %+v", c.found, List(t.Context(), dir))
		})
	}
}

// TestTAESDOfComfyUI: ComfyUI's own previews need it as two files.
func TestTAESDOfComfyUI(t *testing.T) {
	dir, home := ownPlaces(t)
	t.Setenv(PathVariable, home)
	touch(t, home, "custom_nodes/x", "models/latentsync/latentsync_unet.pt")
	halves := touch(t, home, "models/vae_approx/taesd_encoder.pth", "models/vae_approx/taesd_decoder.safetensors")
	s, err := Find(dir, LatentSync)
	wantFault(t, err, fault.Missing, "missing: Whisper (whisper/tiny.pt), the VAE", "found: the UNet is "+s.UNet)
	if s.TAESDEncoder != halves[0] || s.TAESDDecoder != halves[1] {
		t.Errorf("%+v", s)
	}
}

func TestExtraModelPaths(t *testing.T) {
	dir, home := ownPlaces(t)
	root, elsewhere := filepath.Join(home, "ComfyUI"), t.TempDir()
	t.Setenv("SHARED_MODELS", elsewhere)
	touch(t, root, "custom_nodes/x")
	want := touch(t, elsewhere, "latentsync-1.6/latentsync_unet.pt", "sounds/whisper-tiny/model.safetensors")
	want = append(want, touch(t, home, "my vaes/sd-vae-ft-mse.safetensors")...)
	writeFile(t, filepath.Join(root, "extra_model_paths.yaml"), `
comfyui:
  base_path: $SHARED_MODELS
  is_default: true
  checkpoints: "."
  audio_encoders: |
    none
    sounds
other:
  vae: `+filepath.Join(home, "my vaes")+`
empty:
a111:
  base_path: ~/nowhere
`)
	wantSet(t, root, LatentSync, want)
	t.Setenv(PathVariable, root)
	wantSet(t, dir, LatentSync, want)
	writeFile(t, filepath.Join(root, "extra_model_paths.yaml"), "\t[")
	if installed(root, LatentSync) {
		t.Error("a broken file was read")
	}
}

func TestHuggingFaceCache(t *testing.T) {
	dir, home := ownPlaces(t)
	hub := filepath.Join(home, ".cache", "huggingface", "hub")
	t.Setenv("XDG_CACHE_HOME", "")
	touch(t, hub, "models--ByteDance--LatentSync-1.6/snapshots/old/latentsync_unet.pt", "models--ByteDance--LatentSync-1.6/.no_exist/x")
	writeFile(t, filepath.Join(hub, "models--ByteDance--LatentSync-1.6", "refs", "main"), "new\n")
	want := touch(t, hub,
		"models--ByteDance--LatentSync-1.6/snapshots/new/latentsync_unet.pt",
		"models--openai--whisper-tiny/snapshots/169d4a4/model.safetensors",
		"models--stabilityai--sd-vae-ft-mse/snapshots/31f26fd/diffusion_pytorch_model.safetensors")
	wantSet(t, dir, LatentSync, want)
	wantSet(t, hub, LatentSync, want)
	wantSet(t, dir, LatentSync, slices.Concat(touch(t, dir, "latentsync_unet.pt"), want[1:]))
	museTalk := touch(t, hub, "models--TMElyralab--MuseTalk/snapshots/3ef28bc/musetalkV15/unet.pth")
	if s := wantSet(t, dir, MuseTalk, slices.Concat(museTalk, want[1:])); s.Version.Name != "1.5" {
		t.Errorf("%+v", s.Version)
	}
	other := t.TempDir()
	t.Setenv("HF_HUB_CACHE", other)
	if installed(dir, MuseTalk) {
		t.Error("HF_HUB_CACHE is ignored")
	}
	// The cache that ComfyUI-LatentSyncWrapper keeps.
	kept := touch(t, home, ".latentsync16_models/whisper/tiny.pt", ".latentsync16_models/vae/diffusion_pytorch_model.bin")
	wantSet(t, dir, LatentSync, slices.Concat([]string{filepath.Join(dir, "latentsync_unet.pt")}, kept))
}

// TestPrepareOriginalVAE: vae-ft-mse-840000-ema-pruned.safetensors has a counter.
func TestPrepareOriginalVAE(t *testing.T) {
	ownCache(t)
	src, err := checkpoint.Open(filepath.Join(sharedSynth(t), "vae", "diffusion_pytorch_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	specs := []checkpoint.Spec{{Name: "model_ema.num_updates", DType: tensor.I32}}
	for _, n := range src.Names() {
		specs = append(specs, checkpoint.Spec{Name: n, DType: tensor.F32, Shape: src.Tensor(n).Shape})
	}
	path := filepath.Join(t.TempDir(), "vae-ft-mse-840000-ema-pruned.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkpoint.WriteSafetensors(f, nil, specs, func(i int, w io.Writer) error {
		data := []byte{7, 0, 0, 0}
		if i > 0 {
			data = src.Tensor(specs[i].Name).Data
		}
		_, err := w.Write(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	file, err := Prepare(t.Context(), path, tensor.F16, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Inspect(t.Context(), file, InspectOptions{Kind: VAE}); err != nil || r.DTypes["f16"] == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
