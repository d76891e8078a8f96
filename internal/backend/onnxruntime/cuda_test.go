package onnxruntime

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/stub"
	"github.com/lipstream/lipstream/internal/tensor"
)

// fakeCUDA is a CUDA runtime with one card, whose memory is that of the process. Its kernels
// do nothing. card_bytes returns what is allocated on the card.
const fakeCUDA = `
#include <stdlib.h>
#include <string.h>
static char any[4096];
static long long taken;
long long card_bytes(void) { return taken; }
int cudaMalloc(void **p, size_t n) {
	size_t *q = malloc(n + 64);
	*q = n; taken += n; *p = (char *)q + 64;
	return 0;
}
int cudaFree(void *p) {
	if (!p) return 0;
	size_t *q = (size_t *)((char *)p - 64);
	taken -= *q; free(q);
	return 0;
}
int cudaMallocHost(void **p, size_t n) { *p = malloc(n); return 0; }
int cudaHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return 0; }
int cudaFreeHost(void *p) { free(p); return 0; }
int cudaMemcpy(void *to, const void *from, size_t n, int kind) { memcpy(to, from, n); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t n, int kind, void *s) { memcpy(to, from, n); return 0; }
int cudaMemset(void *p, int v, size_t n) { memset(p, v, n); return 0; }
int cudaMemsetAsync(void *p, int v, size_t n, void *s) { memset(p, v, n); return 0; }
int cudaMemGetInfo(size_t *free, size_t *total) { *free = *total = 8ll << 30; return 0; }
int cudaGetDeviceCount(int *n) { *n = 1; return 0; }
int cudaGetDevice(int *n) { *n = 0; return 0; }
int cudaGetDeviceProperties(char *p, int n) { memset(p, 0, 900); strcpy(p, "fake"); return 0; }
int cudaDeviceGetAttribute(int *v, int a, int n) { *v = 8; return 0; }
int cudaDriverGetVersion(int *v) { *v = 13000; return 0; }
int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }
int cudaEventCreate(void **e) { *e = any; return 0; }
int cudaEventCreateWithFlags(void **e, unsigned f) { *e = any; return 0; }
int cudaStreamCreate(void **s) { *s = malloc(1); return 0; }
int cudaStreamCreateWithFlags(void **s, unsigned f) { *s = malloc(1); return 0; }
int cudaStreamIsCapturing(void *s, int *v) { *v = 0; return 0; }
int cudaLaunchHostFunc(void *s, void (*f)(void *), void *p) { f(p); return 0; }
const char *cudaGetErrorName(int e) { return "fake"; }
const char *cudaGetErrorString(int e) { return "fake"; }
void **__cudaRegisterFatBinary(void *p) { return (void **)any; }
`

// fakeDriver lists the card.
const fakeDriver = `
#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int n) { *d = n; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, "fake"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = 8; return 0; }
int cuDeviceGetUuid(char *u, int d) { memset(u, 0, 16); return 0; }
int cuGetErrorString(int e, const char **s) { *s = "fake"; return 0; }
`

// fakeLibraries compiles stubs of the libraries of CUDA that a provider needs. What is not in
// fakeCUDA or fakeDriver does nothing and succeeds. It returns them in the order in which to
// load them.
func fakeLibraries(t *testing.T, provider string) []string {
	t.Helper()
	f, err := elf.Open(provider)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var list []string
	for _, lib := range needed {
		if !strings.HasPrefix(lib, "libcu") {
			continue
		}
		var source strings.Builder
		if strings.HasPrefix(lib, "libcudart") {
			source.WriteString(fakeCUDA)
		}
		if lib == "libcuda.so.1" {
			source.WriteString(fakeDriver)
		}
		for _, s := range symbols {
			own := s.Library == lib || s.Library == "" && lib == "libcuda.so.1" && strings.HasPrefix(s.Name, "cu")
			if own && !regexp.MustCompile(`\b`+s.Name+`\(`).MatchString(source.String()) {
				fmt.Fprintf(&source, "long %s(void) { return 0; }\n", s.Name)
			}
		}
		script := filepath.Join(dir, "script")
		if err := os.WriteFile(script, []byte(lib+" { global: *; };"), 0o600); err != nil {
			t.Fatal(err)
		}
		list = append(list, stub.At(t, filepath.Join(dir, lib), source.String(), "-w", "-Wl,-soname,"+lib, "-Wl,--version-script="+script))
	}
	// cuBLAS needs the runtime.
	slices.Reverse(list)
	return list
}

// TestCUDAProvider runs sessions of the real CUDA provider with a CUDA that computes
// nothing: it takes all options, and all sessions allocate from one arena.
func TestCUDAProvider(t *testing.T) {
	lib, err := wheels.Find(t.Context(), wheels.CUDA13)
	if err != nil {
		t.Skip(err) // 255 MB, which only a machine with a card needs
	}
	if !backendtest.InChild(t) { // in which no other CUDA is loaded
		return
	}
	fakes := fakeLibraries(t, filepath.Join(filepath.Dir(lib.Path), "libonnxruntime_providers_cuda.so"))
	b, err := Open(t.Context(), lib.Path, fakes...)
	if err != nil {
		t.Fatal(err)
	}
	var taken func() int64
	runtime, err := native.Open(fakes[slices.IndexFunc(fakes, func(p string) bool { return strings.Contains(p, "cudart") })], "")
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.Bind("", native.Func{Name: "card_bytes", Ptr: &taken}); err != nil {
		t.Fatal(err)
	}
	load := func(name string, o backend.Options) *session {
		t.Helper()
		g := onnx.New(name)
		x := g.Input("x", tensor.F32, 256, 1024)
		y := g.Op("Mul", []onnx.Value{x, g.Weight(onnx.Weight{Name: "w", Tensor: tensor.New(tensor.F32, 256, 1024)})})
		g.Output("y", g.Op("Add", []onnx.Value{y, x}), tensor.F32, 256, 1024)
		o.Device = "cuda:0"
		s, err := b.Load(t.Context(), backend.Model{Name: name, Graph: g}, o)
		if err != nil {
			t.Fatal(err)
		}
		return s.(*session)
	}
	const size = 1 << 20 // of the weights, and of x and y
	check := func(when string, sessions []*session, want int64) {
		t.Helper()
		var sum int64
		for _, s := range sessions {
			m := s.Memory()
			if sum += m.Held; !m.Exact || m.Held < size-4096 { // the first block belongs to one of them
				t.Errorf("%s: %+v", when, m)
			}
		}
		if held, _, ok := sessions[0].arena.stats(); !ok || held != taken() || held > want || held < want-4096 {
			t.Errorf("%s: the arena holds %d bytes, the card %d, not %d", when, held, taken(), want)
		}
		if b.copies.idle == nil && sum != taken() {
			t.Errorf("%s: the sessions hold %d of %d bytes", when, sum, taken())
		}
	}
	list := []*session{load("f32", backend.Options{Precision: backend.F32, Arena: backend.Arena{Limit: 16 * size}}), load("auto", backend.Options{})}
	check("loaded", list, 2*size+256)

	in := tensor.New(tensor.F32, 256, 1024)
	in.F32()[7] = 7
	x, err := b.Upload(t.Context(), "cuda:0", in)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := x.Host(t.Context()); err != nil || back.F32()[7] != 7 {
		t.Errorf("it comes back as %v, %v", back, err)
	}
	for range 3 {
		y := x
		for _, s := range list {
			out, err := s.RunValues(t.Context(), map[string]backend.Value{"x": y}, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			if y != x {
				_ = y.Close()
			}
			y = out["y"]
		}
		if err := y.Close(); err != nil {
			t.Fatal(err)
		}
	}
	before := taken()
	if before > 8*size {
		t.Errorf("the card holds %d bytes", before)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		s.Shrink()
	}
	if _, err := list[1].Run(t.Context(), map[string]*tensor.Tensor{"x": in}); err != nil {
		t.Fatal(err)
	}
	check("after Shrink", list, 2*size)

	// The limit is that of all sessions: this one would fit alone.
	large := make([]backend.Value, 0, 16)
	for err == nil {
		var v backend.Value
		if v, err = b.Upload(t.Context(), "cuda:0", in); err == nil {
			large = append(large, v)
		}
	}
	if n := len(large); !backend.OutOfMemory(err.Error()) || n < 8 || n > 14 {
		t.Errorf("%d tensors fit; then: %v", n, err)
	}
	for _, v := range large {
		_ = v.Close()
	}
	// Unused blocks make room for weights.
	if taken() < 14*size {
		t.Errorf("the card holds only %d bytes", taken())
	}
	heavy := func(n int) (backend.Session, error) {
		g := onnx.New("heavy")
		w := g.Weight(onnx.Weight{Name: "w", Tensor: tensor.New(tensor.F32, n*size/4)})
		g.Output("y", g.Op("Add", []onnx.Value{g.Input("x", tensor.F32, 1), w}), tensor.F32, n*size/4)
		return b.Load(t.Context(), backend.Model{Name: g.Name(), Graph: g}, backend.Options{Device: "cuda:0", Arena: backend.Arena{Limit: 16 * size}})
	}
	s, err := heavy(8)
	if err != nil {
		t.Fatal(err)
	}
	check("with large weights", append(list, s.(*session)), 10*size)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range list {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// The library would allow weights beyond the limit.
	if err := b.copies.clear(); err != nil {
		t.Error(err)
	}
	_, err = heavy(20)
	if fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" {
		t.Errorf("weights beyond the limit: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if taken() != 0 {
		t.Errorf("at the end the card holds %d bytes", taken())
	}
}
