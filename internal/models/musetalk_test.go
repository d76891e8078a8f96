package models

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// synthMuseTalk makes a tiny set of MuseTalk with TAESD in dir, and returns its files.
func synthMuseTalk(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := Synth(t.Context(), dir, SynthOptions{Engine: MuseTalk, Size: "tiny", Resolution: 256, DType: tensor.F32, TAESD: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range paths {
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			t.Fatal(err)
		}
		paths[i] = filepath.ToSlash(rel)
	}
	return paths
}

func TestFindMuseTalk(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	add := func(p string) string {
		path := filepath.Join(dir, filepath.FromSlash(p))
		writeFile(t, path, "x")
		return path
	}
	_, err := Find(dir, MuseTalk)
	wantFault(t, err, fault.Missing, "checkpoints of MuseTalk", "the UNet of MuseTalk (musetalkV15/unet.pth)", "Whisper", "the VAE", "lipstream models pull musetalk")
	unet := add("musetalk/pytorch_model.bin")
	_, err = Find(dir, MuseTalk)
	wantFault(t, err, fault.Missing, "missing: Whisper", "pull whisper, then lipstream models pull vae")
	check := func(from string, want Set, name string) {
		t.Helper()
		got, err := Find(from, MuseTalk)
		if err != nil || !installed(from, MuseTalk) {
			t.Fatal(err)
		}
		if got.Version.Name != name || got.Version.Engine != MuseTalk {
			t.Errorf("version %+v, want %s", got.Version, name)
		}
		if got.Version = want.Version; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	want := Set{UNet: unet, Whisper: add("whisper/pytorch_model.bin"), VAE: add("sd-vae/diffusion_pytorch_model.bin")}
	check(dir, want, "1.0")
	want.UNet = add("musetalkV15/unet.pth")
	check(dir, want, "1.5")
	check(filepath.Join(dir, "musetalkV15"), want, "1.5")
	// What LatentSync has serves as well.
	if err := os.RemoveAll(filepath.Join(dir, "sd-vae")); err != nil {
		t.Fatal(err)
	}
	want.VAE = add("latentsync-1.6/vae/diffusion_pytorch_model.safetensors")
	check(dir, want, "1.5")
	if installed(dir, LatentSync) {
		t.Error("LatentSync is installed without its UNet")
	}
	// TAESD in two files, then in one.
	want.TAESDDecoder, want.TAESDEncoder = add("taesd/taesd_decoder.safetensors"), add("vae_approx/taesd_encoder.pth")
	check(dir, want, "1.5")
	want.TAESDDecoder = add("taesd/diffusion_pytorch_model.safetensors")
	want.TAESDEncoder = want.TAESDDecoder
	check(dir, want, "1.5")

	files, err := FindAll(dir)
	if err != nil || !slices.Equal(files, []File{{MuseTalkUNet, want.UNet}, {Whisper, want.Whisper}, {VAE, want.VAE}, {TAESD, want.TAESDDecoder}}) {
		t.Errorf("%+v, %v", files, err)
	}
	var got []string
	for _, r := range List(t.Context(), dir) {
		version := ""
		if r.Version != nil {
			version = r.Version.String()
		}
		got = append(got, strings.TrimSpace(string(r.Kind)+" "+version))
	}
	if want := []string{"unet", "musetalk MuseTalk 1.5", "musetalk MuseTalk 1.0", "whisper", "vae", "taesd"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func TestSynthMuseTalk(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	got := synthMuseTalk(t, dir)
	want := []string{
		"musetalkV15/unet.pth", "musetalkV15/musetalk.json", "whisper/config.json", "whisper/pytorch_model.bin",
		"sd-vae/config.json", "sd-vae/diffusion_pytorch_model.bin", "taesd/diffusion_pytorch_model.safetensors",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for path, kind := range map[string]Kind{
		"musetalkV15/unet.pth": MuseTalkUNet, "whisper/pytorch_model.bin": Whisper,
		"sd-vae/diffusion_pytorch_model.bin": VAE, "taesd/diffusion_pytorch_model.safetensors": TAESD,
	} {
		for _, o := range []InspectOptions{{Deep: true}, {Kind: kind}} {
			r, err := Inspect(t.Context(), filepath.Join(dir, path), o)
			if err != nil || r.Kind != kind || r.Parameters == 0 || r.Topology == "" {
				t.Errorf("%s: %+v, %v", path, r, err)
			}
			if kind == MuseTalkUNet && (r.Version == nil || r.Version.Name != Synthetic || r.Config != r.Topology) {
				t.Errorf("%s: %+v", path, r)
			}
		}
	}
	f, err := checkpoint.Open(filepath.Join(dir, "musetalkV15/unet.pth"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Tensor("conv_in.weight") == nil || len(f.Names()) != 684 {
		t.Errorf("the UNet has %d tensors: %q", len(f.Names()), f.Names()[:3])
	}
	// Both engines in one folder.
	synthIn(t, dir)
	files, err := FindAll(dir)
	if err != nil || len(files) != 5 {
		t.Errorf("%+v, %v", files, err)
	}
	_, err = Synth(t.Context(), t.TempDir(), SynthOptions{Engine: MuseTalk, Size: "tiny", Resolution: 512, DType: tensor.F32})
	wantFault(t, err, fault.Usage, "not a resolution of MuseTalk", "choose 256")
	_, err = Synth(t.Context(), t.TempDir(), SynthOptions{Engine: "preview", Size: "tiny", Resolution: 256, DType: tensor.F32})
	wantFault(t, err, fault.Usage, "latentsync or musetalk")
}

func TestPrepareMuseTalk(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	synthMuseTalk(t, dir)
	unet := filepath.Join(dir, "musetalkV15/unet.pth")
	file, err := Prepare(t.Context(), unet, tensor.F16, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Inspect(t.Context(), file, InspectOptions{Kind: MuseTalkUNet})
	if err != nil || r.DTypes["f16"] == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	set, err := Find(dir, MuseTalk)
	if got, ok := Prepared(t.Context(), set.UNet, tensor.F16); err != nil || !ok || got != file {
		t.Errorf("%s, %v, %v", got, ok, err)
	}
	for _, path := range []string{set.Whisper, set.TAESDDecoder} {
		_, err := Prepare(t.Context(), path, tensor.F16, nil)
		wantFault(t, err, fault.Input, "not the right kind")
	}
}

// TestMixedUp puts checkpoints where others belong.
func TestMixedUp(t *testing.T) {
	ownCache(t)
	museTalk, latentSync := t.TempDir(), sharedSynth(t)
	synthMuseTalk(t, museTalk)
	for _, c := range []struct {
		dir, path string
		kind      Kind
		want      string
	}{
		{latentSync, "latentsync_unet.pt", MuseTalkUNet, "not a MuseTalk UNet but that of LatentSync"},
		{museTalk, "musetalkV15/unet.pth", UNet, "not a LatentSync UNet but that of MuseTalk"},
		{museTalk, "taesd/diffusion_pytorch_model.safetensors", VAE, "not a VAE: it has"},
		{museTalk, "sd-vae/diffusion_pytorch_model.bin", TAESD, "a full VAE, not TAESD"},
		{museTalk, "musetalkV15/unet.pth", Whisper, "not a Whisper checkpoint"},
	} {
		_, err := Inspect(t.Context(), filepath.Join(c.dir, c.path), InspectOptions{Kind: c.kind})
		wantFault(t, err, fault.Input, c.want)
	}
	// The tensors count, not musetalk.json.
	unet := filepath.Join(museTalk, "musetalkV15/unet.pth")
	config := `{"in_channels": 32, "out_channels": 16, "block_out_channels": [320, 640], "layers_per_block": 2, "cross_attention_dim": 384}`
	writeFile(t, filepath.Join(museTalk, "musetalkV15", museTalkConfigName), config)
	r, err := Inspect(t.Context(), unet, InspectOptions{})
	if err != nil || !strings.Contains(r.Topology, "8 to 4 latent channels") || !strings.Contains(r.Config, "32 to 16 latent channels") || r.Version.Name != "1.5" {
		t.Errorf("%+v, %v", r, err)
	}
	// Of a published version, by its sum.
	sum, err := hashFile(t.Context(), unet, nil)
	if err != nil {
		t.Fatal(err)
	}
	was := published
	defer func() { published = was }()
	published = []known{{name: "x", kind: MuseTalkUNet, version: Version{Engine: MuseTalk, Name: "2.0"}, sha256: sum}}
	if set, err := Find(museTalk, MuseTalk); err != nil || set.Version.String() != "MuseTalk 2.0" || set.Version.How != "its SHA-256" {
		t.Errorf("%+v, %v", set.Version, err)
	}
}

// TestPullParts checks which files Pull downloads for an argument.
func TestPullParts(t *testing.T) {
	ownCache(t)
	var files []known
	for _, part := range []string{"1.6", "musetalk", "whisper", "vae", "taesd", ""} {
		k := fakeFile(content)
		k.kind, k.part, k.place = "", part, "of "+part
		files = append(files, k)
	}
	serve := func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(content) }
	for what, want := range map[string][]string{
		"musetalk": {"of musetalk", "of whisper", "of vae"},
		"1.6":      {"of 1.6", "of whisper", "of vae"},
		"taesd":    {"of taesd"},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			paths, err := Pull(t.Context(), what, dir, PullOptions{BaseURL: "http://hub.test", files: files, transport: inProcess{http.HandlerFunc(serve)}})
			for i := range paths {
				paths[i] = filepath.Base(paths[i])
			}
			if err != nil || !slices.Equal(paths, want) {
				t.Errorf("%s: %q, %v, want %q", what, paths, err, want)
			}
		})
	}
}
