package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/models"
	"github.com/lipstream/lipstream/internal/tensor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const gib = 1 << 30

func tool(path, version string) func(context.Context) (Tool, error) {
	return func(context.Context) (Tool, error) { return Tool{path, version}, nil }
}

func noTool(err error) func(context.Context) (Tool, error) {
	return func(context.Context) (Tool, error) { return Tool{}, err }
}

func backend(name string, l Library, err error) Backend {
	return Backend{name, func(context.Context) (Library, error) { return l, err }}
}

// goodDeps is a machine on which all is well.
func goodDeps(t *testing.T) Deps {
	t.Helper()
	dir := t.TempDir()
	return Deps{
		FFmpeg:  tool("/usr/bin/ffmpeg", "7.1.1"),
		Encoder: func(context.Context) (string, error) { return "libx264", nil },
		Backends: []Backend{
			backend("openvino", Library{"/opt/ov/libopenvino_c.so", "2026.4.1", []Device{{ID: "cpu", Name: "CPU"}, {ID: "gpu:0", Name: "Arc A770"}}}, nil),
			backend("onnxruntime", Library{"/opt/ort/libonnxruntime.so", "1.32.0", nil}, nil),
		},
		CPU: func() CPU {
			return CPU{Model: "AMD EPYC", Physical: 8, Logical: 16, Usable: 4, Features: []string{"avx2", "avx512f"}}
		},
		GPUs: func() ([]memory.GPU, error) {
			return []memory.GPU{
				{Vendor: "nvidia", Name: "RTX 5090", Driver: "570.86", Total: 32 * gib, Used: gib},
				{Vendor: "intel", Name: "intel GPU 0x9a49", Driver: "i915", Shared: true},
				{Vendor: "amd", Name: "W7900"},
			}, nil
		},
		Host:      func() (memory.Host, error) { return memory.Host{Total: 64 * gib, Available: 32 * gib}, nil },
		Cgroup:    func() (memory.Cgroup, error) { return memory.Cgroup{}, nil },
		ModelsDir: "",
		Dirs:      []Dir{{"temp", dir}},
		FreeSpace: func(string) (int64, error) { return 80 * gib, nil },
	}
}

// named returns the checks with a name.
func named(r Report, name string) []Check {
	var found []Check
	for _, c := range r.Checks {
		if c.Name == name {
			found = append(found, c)
		}
	}
	return found
}

func TestTableAndJSONGolden(t *testing.T) {
	good := goodDeps(t)
	bad := good
	bad.FFmpeg = noTool(fault.Missing.New("find ffmpeg", "not found on PATH", "install it: sudo apt-get install ffmpeg"))
	bad.Backends = []Backend{
		backend("openvino", Library{}, errors.New("libopenvino_c.so: not found\nwith details")),
		backend("onnxruntime", Library{}, fault.Missing.New("load library /x.so", "it lacks OrtGetApiBase", "run: lipstream runtime install onnxruntime")),
	}
	bad.CPU = func() CPU {
		return CPU{Model: "Pentium", Physical: 1, Logical: 1, Usable: 1, Slow: "no avx2"}
	}
	bad.GPUs = func() ([]memory.GPU, error) { return nil, errors.New("Driver/library version mismatch (18)") }
	bad.Cgroup = func() (memory.Cgroup, error) {
		return memory.Cgroup{Version: 2, Path: "/docker/1", Limit: 2 * gib, Used: gib, Available: gib}, nil
	}
	bad.ModelsDir = "/nonexistent/my models"
	bad.FreeSpace = func(string) (int64, error) { return gib, nil }

	for name, d := range map[string]Deps{"good": good, "bad": bad} {
		d.Dirs = []Dir{{"temp", "/"}}
		r := Run(t.Context(), d)
		var table, asJSON bytes.Buffer
		if err := r.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		enc := json.NewEncoder(&asJSON)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", table.String())
		golden(t, name+".json", asJSON.String())
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestReady(t *testing.T) {
	gone := errors.New("gone")
	tests := []struct {
		name   string
		change func(*Deps)
		ready  bool
		want   string // in the error
	}{
		{"all good", func(*Deps) {}, true, ""},
		{"nothing to check", func(d *Deps) { *d = Deps{} }, true, ""},
		{"one backend", func(d *Deps) { d.Backends[0] = backend("openvino", Library{}, gone) }, true, ""},
		{"no backend", func(d *Deps) {
			d.Backends = []Backend{backend("openvino", Library{}, gone), backend("onnxruntime", Library{}, gone)}
		}, false, "missing: backend"},
		{"no ffmpeg", func(d *Deps) { d.FFmpeg = noTool(gone) }, false, "missing: ffmpeg"},
		{"nothing works", func(d *Deps) {
			d.FFmpeg, d.Backends = noTool(gone), []Backend{backend("openvino", Library{}, gone)}
		}, false, "missing: ffmpeg, backend"},
		{"no encoder", func(d *Deps) { d.Encoder = func(context.Context) (string, error) { return "", gone } }, true, ""},
		{"no checkpoint", func(d *Deps) { d.ModelsDir = "/nonexistent" }, true, ""},
		{"low on everything", func(d *Deps) {
			d.FreeSpace = func(string) (int64, error) { return 0, nil }
			d.Host = func() (memory.Host, error) { return memory.Host{Total: gib, Available: 1}, nil }
		}, true, ""},
		{"every optional check fails", func(d *Deps) {
			d.FreeSpace = func(string) (int64, error) { return 0, gone }
			d.Host = func() (memory.Host, error) { return memory.Host{}, gone }
			d.GPUs = func() ([]memory.GPU, error) { panic("a bad driver") }
		}, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := goodDeps(t)
			tt.change(&d)
			r := Run(t.Context(), d)
			err := r.Err()
			if r.Ready != tt.ready || (err == nil) != tt.ready {
				t.Fatalf("ready %v, %v", r.Ready, err)
			}
			if err != nil && (fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), tt.want) || fault.HintOf(err) == "") {
				t.Errorf("kind %v, %v, hint %q", fault.KindOf(err), err, fault.HintOf(err))
			}
			for _, c := range r.Checks {
				if c.Status != OK && c.Fix == "" || c.Detail == "" {
					t.Errorf("no fix: %+v", c)
				}
				// Advice that this version cannot use.
				if strings.Contains(c.Fix, "by hand") || strings.Contains(c.Fix, "download ") {
					t.Errorf("useless advice: %+v", c)
				}
			}
		})
	}
}

// TestSomeGPUsFail checks that GPUs are listed even if another one fails.
func TestSomeGPUsFail(t *testing.T) {
	r := Run(t.Context(), Deps{GPUs: func() ([]memory.GPU, error) {
		return []memory.GPU{{Name: "A"}}, errors.New("B is lost")
	}})
	if got := named(r, "gpu"); len(got) != 2 || got[0].Status != OK || got[1].Status != Warning {
		t.Errorf("%+v", got)
	}
}

func TestHangingLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		begin := time.Now()
		r := Run(t.Context(), Deps{Backends: []Backend{{"openvino", func(context.Context) (Library, error) {
			<-release // native code, which cannot be interrupted
			return Library{}, nil
		}}}})
		close(release)
		if d := time.Since(begin); d != backendTimeout {
			t.Errorf("waited %v", d)
		}
		if c := named(r, "openvino")[0]; c.Status != Missing || c.Detail != "no answer within 1m0s" {
			t.Errorf("%+v", c)
		}
	})
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := goodDeps(t)
	d.FFmpeg = func(ctx context.Context) (Tool, error) { <-ctx.Done(); return Tool{}, ctx.Err() }
	if c := named(Run(ctx, d), "ffmpeg")[0]; !strings.Contains(c.Detail, "interrupted") {
		t.Errorf("%+v", c)
	}
}

func TestCheckpoints(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	t.Setenv("LocalAppData", cache)
	const pull = "run: lipstream models pull "
	check := func(what string, want ...Check) {
		t.Helper()
		got := Run(t.Context(), Deps{ModelsDir: dir}).Checks
		if len(got) != len(want) {
			t.Fatalf("%s: %+v", what, got)
		}
		for i, w := range want {
			if g := got[i]; g.Name != w.Name || g.Status != w.Status || g.Fix != w.Fix || !strings.Contains(g.Detail, w.Detail) {
				t.Errorf("%s: got %+v, want %+v", what, g, w)
			}
		}
	}
	none := "not found (the models folder is " + dir + "); only the "
	const both = "engines latentsync and musetalk need it"
	museTalk := Check{"musetalk", Missing, none + "musetalk engine needs it", pull + "musetalk"}
	check("nothing", Check{"unet", Missing, none + "latentsync engine needs it", pull + "1.6"}, museTalk,
		Check{"whisper", Missing, none + both, pull + "1.6"}, Check{"vae", Missing, none + both, pull + "1.6"})

	if _, err := models.Synth(t.Context(), dir, models.SynthOptions{Size: "tiny", Resolution: 512, DType: tensor.F32}); err != nil {
		t.Fatal(err)
	}
	whisper := Check{"whisper", OK, "tiny.pt", ""}
	unet := filepath.Join(dir, "latentsync_unet.pt")
	check("complete", Check{"unet", OK, "synthetic (random weights), 14.6 MiB, not prepared, " + unet, ""}, museTalk, whisper, Check{"vae", OK, "not prepared", ""})
	if _, err := models.Prepare(t.Context(), unet, tensor.BF16, nil); err != nil {
		t.Fatal(err)
	}
	check("prepared", Check{"unet", OK, "prepared as bf16", ""}, museTalk, whisper, Check{"vae", OK, "not prepared", ""})

	if err := os.RemoveAll(filepath.Join(dir, "vae")); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("latentsync_unet.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 5072222488\n") // what git leaves without git-lfs
	got := Run(t.Context(), Deps{ModelsDir: dir}).Checks
	if c := got[0]; c.Status != Warning || !strings.Contains(c.Detail, "Git LFS pointer") || !strings.Contains(c.Fix, "git lfs pull") {
		t.Errorf("pointer: %+v", c)
	}
	if c := got[3]; c.Status != Missing || c.Fix != pull+"vae" {
		t.Errorf("no VAE: %+v", c)
	}
}

func TestSpaceOfFolderToCome(t *testing.T) {
	dir := t.TempDir()
	var asked string
	c := checkSpace(Dir{"cache", filepath.Join(dir, "a/b/c")}, func(path string) (int64, error) { asked = path; return 3 * gib, nil })
	if c.Status != OK || asked != dir {
		t.Errorf("%+v, asked %q", c, asked)
	}
}

// TestSystem looks at this machine.
func TestSystem(t *testing.T) {
	r := Run(t.Context(), System(t.TempDir()))
	for _, name := range []string{"cpu", "memory", "disk temp", "disk work", "unet", "whisper", "vae", "gpu"} {
		if len(named(r, name)) == 0 {
			t.Errorf("no check of %s", name)
		}
	}
	if c := readCPU(); c.Model == "" || c.Usable < 1 {
		t.Errorf("%+v", c)
	}
	if free, err := disk.Free(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
}

func TestBrokenDevice(t *testing.T) {
	d := goodDeps(t)
	d.Backends[0] = backend("openvino", Library{"/opt/ov/libopenvino_c.so", "2026.4.1", []Device{
		{ID: "cpu", Name: "CPU"}, {ID: "gpu:0", Name: "UHD", Err: errors.New("no driver")},
	}}, nil)
	r := Run(t.Context(), d)
	at := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == "gpu:0" })
	if at < 0 || r.Checks[at] != (Check{"gpu:0", Warning, "UHD: no driver", "use device cpu"}) || !r.Ready {
		t.Errorf("got %+v", r.Checks)
	}
}
