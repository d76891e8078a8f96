package models

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lipstream/lipstream/internal/checkpoint"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// ownCache gives a test its own cache folder, which it returns.
func ownCache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"XDG_CACHE_HOME", "LocalAppData", "HOME"} {
		t.Setenv(v, dir)
	}
	return dir
}

// shared holds a tiny set for the tests that do not change it.
var shared string

// sharedSynth returns the folder of the shared set.
func sharedSynth(t *testing.T) string {
	t.Helper()
	if shared == "" {
		dir, err := os.MkdirTemp("", "lipstream-models-")
		if err != nil {
			t.Fatal(err)
		}
		shared = dir
		synthIn(t, dir)
	}
	return shared
}

// synth makes a tiny set and returns its folder.
func synth(t *testing.T) string {
	t.Helper()
	return synthIn(t, t.TempDir())
}

func synthIn(t *testing.T, dir string) string {
	t.Helper()
	if _, err := Synth(t.Context(), dir, SynthOptions{Size: "tiny", Resolution: 256, DType: tensor.F32}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantFault checks an error's kind and that its text and hint contain parts.
func wantFault(t *testing.T, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Fatalf("error %v of kind %d, want kind %d", err, fault.KindOf(err), kind)
	}
	for _, p := range parts {
		if text := err.Error() + "\n" + fault.HintOf(err); !strings.Contains(text, p) {
			t.Errorf("%q does not contain %q", text, p)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// installed reports whether Find finds a complete set.
func installed(dir string, e Engine) bool {
	_, err := Find(dir, e)
	return err == nil
}

func TestFind(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	if _, err := Find(dir, LatentSync); true {
		wantFault(t, err, fault.Missing, "latentsync_unet.pt", "whisper/tiny.pt", "vae/diffusion", "lipstream models pull 1.6")
	}
	add := func(p string) string {
		path := filepath.Join(dir, filepath.FromSlash(p))
		writeFile(t, path, "x")
		return path
	}
	old := add("latentsync-1.5/latentsync_unet.pt")
	_, err := Find(dir, LatentSync)
	wantFault(t, err, fault.Missing, "Whisper", "the VAE", "pull whisper, then lipstream models pull vae", "found: the UNet is "+old)
	whisper := add("tiny.pt")
	_, err = Find(dir, LatentSync)
	wantFault(t, err, fault.Missing, "the VAE", "lipstream models pull vae")
	if installed(dir, LatentSync) {
		t.Error("installed without a VAE")
	}
	vae := add("sd-vae-ft-mse/diffusion_pytorch_model.bin")
	check := func(from, unet string) {
		t.Helper()
		s, err := Find(from, LatentSync)
		if err != nil || s.UNet != unet || s.Whisper != whisper || s.VAE != vae || !installed(from, LatentSync) {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	check(dir, old)
	check(filepath.Join(dir, "latentsync-1.5"), old)
	check(dir, add("latentsync-1.6/latentsync_unet.pt"))
	check(dir, add("latentsync_unet.safetensors"))
	check(dir, add("latentsync_unet.pt"))
	vae = add("vae/diffusion_pytorch_model.safetensors")
	whisper = add("whisper/tiny.pt")
	check(dir, filepath.Join(dir, "latentsync_unet.pt"))
	if rows := List(t.Context(), dir); len(rows) != 8 || rows[6].Path != vae {
		t.Errorf("%+v", rows)
	}
}

func TestIdentify(t *testing.T) {
	ownCache(t)
	dir := synth(t)
	unet := filepath.Join(dir, "latentsync_unet.pt")
	identify := func(want string) Version {
		t.Helper()
		v, err := Identify(t.Context(), unet)
		if err != nil || v.Name != want {
			t.Fatalf("%+v, %v, want %q", v, err, want)
		}
		return v
	}
	if v := identify(Synthetic); v.Resolution != 256 || v.CheckResolution(512) != nil {
		t.Errorf("%+v", v)
	}
	// Copied without its time: the sum decides.
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(unet, past, past); err != nil {
		t.Fatal(err)
	}
	identify(Synthetic)
	// Other weights of the same size: the note beside them is not theirs.
	data := readFile(t, unet)
	data[len(data)/2] ^= 1
	writeFile(t, unet, string(data))
	identify("")
	// A published version, by its sum.
	sum, err := hashFile(t.Context(), unet, nil)
	if err != nil {
		t.Fatal(err)
	}
	was := published
	defer func() { published = was }()
	published = []known{{name: "x", kind: UNet, version: Version{Name: "1.5", Resolution: 256}, size: int64(len(data)), sha256: sum}}
	if err := os.Remove(filepath.Join(dir, sidecarName)); err != nil {
		t.Fatal(err)
	}
	v := identify("1.5")
	wantFault(t, v.CheckResolution(512), fault.Usage, "which is LatentSync 1.5, made for 256 pixels", "SHA-256")
	if v.CheckResolution(256) != nil || (Version{}).CheckResolution(512) != nil {
		t.Error("a fitting resolution is refused")
	}
	// Written by hand, without a sum.
	writeFile(t, filepath.Join(dir, sidecarName), `{"version":"mine","resolution":512,"size":`+"999"+`}`)
	published = nil
	identify("")
	_, err = Identify(t.Context(), filepath.Join(dir, "none"))
	wantFault(t, err, fault.Missing)
}

func TestPublished(t *testing.T) {
	for _, k := range published {
		if !isSum(k.sha256) || k.size == 0 || k.repo == "" {
			t.Errorf("%+v", k)
		}
	}
	// 4.4 of the spec: what a UNet of float32 holds at least.
	for _, k := range published[:2] {
		if over := k.size - 5_071_778_576; over < 0 || over > 1<<20 {
			t.Errorf("%s has %d bytes more than its weights", k.name, over)
		}
	}
	// Section 2.2 of MuseTalk's: 849,947,844 parameters of float32.
	if k := bySum("7ebf6c98c181e20838e4c0054e96e944ac60d5d692cc01db42839fe11b787007"); k.size-4*849_947_844 < 0 || k.size-4*849_947_844 > 1<<20 {
		t.Errorf("%+v", k)
	}
}

func TestSynth(t *testing.T) {
	ownCache(t)
	dir := synth(t)
	for _, p := range []string{"latentsync_unet.pt", "whisper/tiny.pt", "vae/diffusion_pytorch_model.safetensors"} {
		r, err := Inspect(t.Context(), filepath.Join(dir, p), InspectOptions{Deep: true})
		if err != nil || !r.Deep || r.Parameters == 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	other := t.TempDir()
	if _, err := Synth(t.Context(), other, SynthOptions{Size: "tiny", Resolution: 256, DType: tensor.F32}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(readFile(t, filepath.Join(dir, "latentsync_unet.pt")), readFile(t, filepath.Join(other, "latentsync_unet.pt"))) {
		t.Error("the same seed makes another file")
	}
	_, err := Synth(t.Context(), dir, SynthOptions{Size: "tiny", Resolution: 256, DType: tensor.F32})
	wantFault(t, err, fault.Output, "already exists")
	empty := t.TempDir()
	_, err = Synth(t.Context(), empty, SynthOptions{Size: "full", Resolution: 512, DType: tensor.F32, free: func(string) (int64, error) { return 1 << 30, nil }})
	wantFault(t, err, fault.Output, "1.0 GiB are free, but 5.")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Synth(ctx, empty, SynthOptions{Size: "tiny", Resolution: 512, DType: tensor.F16})
	wantFault(t, err, fault.Cancelled)
	if left, _ := os.ReadDir(empty); len(left) > 0 {
		t.Errorf("an interrupted Synth left %v", left)
	}
	// The positions of the spec's test vectors (12.2, 12.3).
	for _, v := range []struct{ got, want float32 }{
		{unetPosition(1, 2, 320), 0.8099465}, {unetPosition(1, 3, 320), 0.5865038}, {unetPosition(23, 0, 320), -0.8462204},
		{whisperPosition(1, 1, 384), 0.8151120}, {whisperPosition(1499, 191, 384), 0.1493392}, {whisperPosition(1499, 383, 384), 0.9887860},
	} {
		if d := v.got - v.want; d > 1e-6 || d < -1e-6 {
			t.Errorf("%v instead of %v", v.got, v.want)
		}
	}
}

// rewrite copies a checkpoint, with its tensors changed.
func rewrite(t *testing.T, from, to string, change func(name string, v []float32)) {
	t.Helper()
	src, err := checkpoint.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var specs []checkpoint.Spec
	for _, n := range src.Names() {
		specs = append(specs, checkpoint.Spec{Name: n, DType: tensor.F32, Shape: src.Tensor(n).Shape})
	}
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := checkpoint.WriteTorch(out, nil, "state_dict", specs, func(i int, w io.Writer) error {
		c := tensor.FromF32(slices.Clone(src.Tensor(specs[i].Name).F32()), specs[i].Shape...)
		change(specs[i].Name, c.F32())
		_, err := w.Write(c.Data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestInspectBad(t *testing.T) {
	ownCache(t)
	dir := synth(t)
	unet := filepath.Join(dir, "latentsync_unet.pt")
	data := readFile(t, unet)
	bad := filepath.Join(t.TempDir(), "bad.pt")
	deep := InspectOptions{Deep: true}
	inspect := func(o InspectOptions, parts ...string) {
		t.Helper()
		_, err := Inspect(t.Context(), bad, o)
		wantFault(t, err, fault.Input, parts...)
	}
	writeFile(t, bad, string(data[:len(data)/2]))
	inspect(InspectOptions{}, "cut off")
	writeFile(t, bad, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
	inspect(InspectOptions{}, "Git LFS pointer")
	writeFile(t, bad, "<!DOCTYPE html><html>")
	inspect(InspectOptions{}, "HTML")
	rewrite(t, unet, bad, func(name string, v []float32) {
		if name == "conv_out.weight" {
			v[7] = float32(nan())
		}
	})
	if _, err := Inspect(t.Context(), bad, InspectOptions{}); err != nil {
		t.Error(err)
	}
	inspect(deep, "conv_out.weight", "not finite", "index 7")
	// One flipped bit, which only the checksums in the file reveal.
	at := len(data) / 2
	data[at] ^= 1
	writeFile(t, bad, string(data))
	inspect(deep, "checksum error")
	// The file beside it disagrees.
	writeFile(t, unet, string(data))
	_, err := Inspect(t.Context(), unet, deep)
	wantFault(t, err, fault.Input, "SHA-256", sidecarName)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Inspect(ctx, filepath.Join(dir, "whisper/tiny.pt"), deep)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func mustParse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// BenchmarkNormals: random weights should be made faster than disks write.
func BenchmarkNormals(b *testing.B) {
	n := newNormals()
	s := checkpoint.Spec{Name: "w", DType: tensor.F32, Shape: []int{1280, 1280, 3}}
	b.SetBytes(s.Size())
	for b.Loop() {
		if err := n.fill(io.Discard, s, 1, func(int) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
