package onnxruntime

import (
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/memory"
	"github.com/lipstream/lipstream/internal/stub"
	"github.com/lipstream/lipstream/internal/tensor"
)

// square returns a model that computes (n, n) from x (n, 1): four million bytes for 1000
// numbers.
func square() []byte {
	var g backendtest.Graph
	g.Node("Transpose", []string{"x"}, []string{"xt"})
	g.Node("MatMul", []string{"x", "xt"}, []string{"xx"})
	g.Node("Softmax", []string{"xx"}, []string{"s"})
	g.Node("ReduceMean", []string{"s"}, []string{"y"}, backendtest.Int("keepdims", 1))
	g.Input("x", tensor.F32, -1, 1)
	g.Output("y", tensor.F32, -1, -1)
	return g.Bytes()
}

// TestArenaReturnsMemory checks the resident size of the process. The first Run is a large
// one: Shrink and Close must return its memory with all settings.
func TestArenaReturnsMemory(t *testing.T) {
	b := open(t)
	resident := func() int64 {
		debug.FreeOSMemory()
		return memory.SelfStatus()["VmRSS"]
	}
	if resident() == 0 {
		t.Skip("this system does not tell the size of a process")
	}
	const taken = 4000 * 4000 * 4
	for name, a := range map[string]backend.Arena{"plain": {}, "double": {Growth: backend.GrowDouble}, "exact": {Growth: backend.GrowExact}} {
		t.Run(name, func(t *testing.T) {
			s, err := b.Load(t.Context(), backend.Model{Name: "square", Bytes: square()}, backend.Options{Device: "cpu", Threads: 1, Arena: a})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			// run returns the resident size afterwards.
			run := func(n int) int64 {
				t.Helper()
				if _, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, n, 1)}); err != nil {
					t.Fatal(err)
				}
				return resident()
			}
			large := run(4000)
			if held := s.Memory().Held; held < taken {
				t.Errorf("it holds %d bytes", held)
			}
			s.Shrink()
			if small := run(100); large-small < taken*3/4 {
				t.Errorf("Shrink gave back %d of %d bytes", large-small, taken)
			}
			if held, _, ok := s.(*session).arena.stats(); !ok || held > 2<<20 {
				t.Errorf("after Shrink the arena holds %d bytes", held)
			}
			large = run(4000)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if closed := resident(); large-closed < taken*3/4 {
				t.Errorf("Close gave back %d of %d bytes", large-closed, taken)
			}
		})
	}
}

// TestArena loads a model with different settings, one after the other, and checks the
// figures of the library's allocators.
func TestArena(t *testing.T) {
	b := open(t)
	load := func(t *testing.T, o backend.Options) *session {
		t.Helper()
		o.Device, o.Threads = "cpu", 1
		s, err := b.Load(t.Context(), backend.Model{Name: "square", Bytes: square()}, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s.(*session)
	}
	run := func(s *session, n int) error {
		_, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, n, 1)})
		return err
	}
	held := func(t *testing.T, s *session) int64 {
		t.Helper()
		n, _, ok := s.arena.stats()
		if !ok {
			t.Fatal("the session has no statistics")
		}
		return n
	}
	plain := load(t, backend.Options{})
	after := map[string]int64{}
	for name, a := range map[string]backend.Arena{"exact": {Growth: backend.GrowExact}, "doubling": {Growth: backend.GrowDouble}, "large": {First: 64 << 20}} {
		t.Run(name, func(t *testing.T) {
			s := load(t, backend.Options{Arena: a})
			if err := run(s, 1000); err != nil {
				t.Error(err)
			}
			after[name] = held(t, s)
			t.Logf("%d bytes", after[name])
			if name != "exact" {
				return
			}
			// Shrink returns what the next Run does not need.
			if err := run(plain, 1000); err != nil {
				t.Fatal(err)
			}
			before := held(t, plain)
			s.Shrink()
			if err := run(s, 100); err != nil {
				t.Fatal(err)
			}
			if n := held(t, s); n > 1_000_000 {
				t.Errorf("after Shrink it holds %d bytes", n)
			}
			if n := held(t, plain); n != before {
				t.Errorf("Shrink took %d bytes from a session with its own arena", before-n)
			}
			if err := run(s, 1000); err != nil || held(t, s) < 4_000_000 {
				t.Errorf("after Shrink: %v, %d bytes", err, held(t, s))
			}
		})
	}
	if n := after["exact"]; n < 4_000_000 || n > 4_500_000 {
		t.Errorf("exact: %d bytes where 4 000 000 are needed", n)
	}
	if after["doubling"] <= after["exact"] {
		t.Errorf("doubling holds %d bytes, not more than the %d without", after["doubling"], after["exact"])
	}
	if n := after["large"]; n != 64<<20 {
		t.Errorf("with a first block of 64 MiB it holds %d bytes", n)
	}
	t.Run("limited", func(t *testing.T) {
		limited := load(t, backend.Options{Arena: backend.Arena{Limit: 3_000_000}})
		if err := run(limited, 500); err != nil { // 1 000 000 bytes
			t.Errorf("below its limit: %v", err)
		}
		if err := run(limited, 1000); fault.KindOf(err) != fault.Memory || fault.HintOf(err) == "" {
			t.Errorf("above its limit: %v", err)
		}
		if err := run(limited, 500); err != nil {
			t.Errorf("below its limit again: %v", err)
		}
		if n := held(t, limited); n > 3_000_000 {
			t.Errorf("limited to 3 000 000 it holds %d bytes", n)
		}
	})
	for _, a := range []backend.Arena{{Limit: -1}, {First: -1}, {MaxDead: -1}, {Growth: -1}} {
		if s, err := b.Load(t.Context(), backend.Model{Name: "square", Bytes: square()}, backend.Options{Arena: a}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v, %v", a, s, err)
		}
	}
}

// standIn is a library whose functions do nothing but record settings and, on demand, fail.
const standIn = `
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
static void *table[400];
static char noted[4096];
static const char *failure;
static void *ok(void) { return NULL; }
static void note(const char *k, const char *v) { strcat(noted, k); strcat(noted, "="); strcat(noted, v); strcat(noted, " "); }
static int code(void *s) { (void)s; return 6; }
static const char *message(void *s) { return s; }
static void *status(void) { return (void *)failure; }
static void *make(void **out) { *out = &table; return NULL; }
static void *createArena(const char **k, const size_t *v, size_t n, void **out) {
	for (size_t i = 0; i < n; i++) {
		char text[32];
		snprintf(text, sizeof text, "%zu", v[i]);
		note(k[i], text);
	}
	return make(out);
}
static void *fromArray(void *e, void *d, size_t n, void *o, void **out) {
	(void)e; (void)d; (void)n; (void)o;
	if (strstr(noted, "fail=load ")) return status();
	return make(out);
}
static void *counted(void *s, size_t *n) { (void)s; *n = 0; return NULL; }
static void *allocator(void *s, void *i, void **out) { (void)s; (void)i; return make(out); }
static void *info(const char *name, int a, int id, int m, void **out) {
	(void)a; (void)m; char n[2] = {'0' + id, 0}; note(name, n); return make(out);
}
static void *registered(void *e, const char *p, void *i, void *c, void *k, void *v, size_t n) {
	(void)e; (void)i; (void)c; (void)k; (void)v; note("arena", p); if (n) note("options", "some"); return NULL;
}
static void *unregistered(void *e, void *i) { (void)e; (void)i; note("released", "arena"); return NULL; }
static void *sessionConfig(void *o, const char *k, const char *v) { (void)o; if (strstr(k, "allocator")) note(k, v); return NULL; }
static void *stats(void *a, void **out) { (void)a; return make(out); }
static const char *value(void *p, const char *k) { (void)p; (void)k; return "0"; }
static void *update(void *o, const char **k, const char **v, size_t n) { (void)o; for (size_t i = 0; i < n; i++) note(k[i], v[i]); return NULL; }
static void *append(void *o, void *c) { (void)o; (void)c; note("appended", "cuda"); return strstr(noted, "fail=append ") ? status() : NULL; }
static void *runConfig(void *o, const char *k, const char *v) { (void)o; note(k, v); return NULL; }
static const void *api(uint32_t version) {
	(void)version;
	for (int i = 0; i < 400; i++) table[i] = ok;
	table[1] = code; table[2] = message; table[8] = fromArray; table[9] = status; table[10] = make;
	table[30] = counted; table[31] = counted; table[39] = make; table[68] = info; table[131] = allocator;
	table[130] = sessionConfig; table[164] = createArena; table[165] = runConfig; table[177] = unregistered; table[259] = registered;
	table[204] = append; table[205] = make; table[206] = update; table[297] = value; table[319] = stats;
	return table;
}
static const char *version(void) { return "1.32.0"; }
static struct { const void *(*get)(uint32_t); const char *(*version)(void); } base = {api, version};
const void *OrtGetApiBase(void) { return &base; }
void setup(const char *what, const char *text) { noted[0] = 0; note("fail", what); failure = strdup(text); }
const char *get_noted(void) { return noted; }
`

// openStandIn returns a backend of the stand-in. setup clears what is recorded and sets what
// fails ("load", "append", or "run", which always fails) with which text.
func openStandIn(t *testing.T) (b *Backend, setup func(what, text string), noted func() string) {
	t.Helper()
	lib, err := native.Open(stub.Library(t, standIn), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := lib.Bind("", native.Func{Name: "setup", Ptr: &setup}, native.Func{Name: "get_noted", Ptr: &noted}); err != nil {
		t.Fatal(err)
	}
	a, version, err := loadAPI(lib)
	if err != nil {
		t.Fatal(err)
	}
	return &Backend{api: a, version: version, cuda: true, env: 1, memInfo: 1, allocator: 1}, setup, noted
}

// TestCUDASettings checks the settings that a session on a GPU passes to the library.
func TestCUDASettings(t *testing.T) {
	b, setup, noted := openStandIn(t)
	load := func(a backend.Arena) error {
		s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}, backend.Options{Device: "cuda:1", Arena: a})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	for _, c := range []struct {
		arena backend.Arena
		want  string
	}{
		{backend.Arena{}, "kSameAsRequested appended=cuda arena_extend_strategy=1 "},
		{backend.Arena{Limit: 3 << 30}, "kSameAsRequested gpu_mem_limit=3221225472 appended=cuda arena_extend_strategy=1 max_mem=3221225472 "},
		{backend.Arena{Growth: backend.GrowDouble}, "kNextPowerOfTwo appended=cuda arena_extend_strategy=0 "},
	} {
		setup("none", "")
		if err := load(c.arena); err != nil {
			t.Fatal(err)
		}
		provider, arena, _ := strings.Cut(c.want, "appended=cuda ")
		want := "fail=none device_id=1 cudnn_conv_algo_search=HEURISTIC do_copy_in_default_stream=1 enable_skip_layer_norm_strict_mode=1 " +
			"arena_extend_strategy=" + provider + "session.use_device_allocator_for_initializers=1 appended=cuda session.use_env_allocators=1 Cuda=1 " +
			arena + "max_dead_bytes_per_chunk=134217728 arena=CUDAExecutionProvider memory.enable_memory_arena_shrinkage=gpu:1 released=arena "
		if got := noted(); got != want {
			t.Errorf("%+v:\n got %s\nwant %s", c.arena, got, want)
		}
	}
	setup("none", "")
	s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}, backend.Options{Device: "cuda:0", Precision: backend.F32})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := noted(); !strings.Contains(got, "use_tf32=0 ") {
		t.Errorf("f32 is computed with TensorFloat-32: %s", got)
	}
	// Beside the plugin TensorRT-RTX, each session has its own arena.
	registered.in[b.env] = map[string]bool{wheels.TensorRTRTX: true}
	setup("none", "")
	if err := load(backend.Arena{Limit: 3 << 30}); err != nil {
		t.Fatal(err)
	}
	if got := noted(); strings.Contains(got, "use_env_allocators") || strings.Contains(got, "arena=") || !strings.Contains(got, "gpu_mem_limit=3221225472 ") {
		t.Errorf("beside a plugin for the same GPU: %s", got)
	}
	delete(registered.in, b.env)
	if _, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}, backend.Options{Device: "cuda:0", Precision: backend.BF16}); fault.KindOf(err) != fault.Usage {
		t.Errorf("bf16: %v", err)
	}
	b.devices = []backend.Device{{ID: "cuda:0", Err: fault.Missing.New("use device cuda:0", "it is too old")}}
	if _, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}, backend.Options{Device: "cuda:0"}); fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "it is too old") {
		t.Errorf("a device that does not work: %v", err)
	}
	setup("append", "libcudnn.so.9: cannot open shared object file")
	if err := load(backend.Arena{}); fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "runtime install cuda") {
		t.Errorf("without cuDNN: kind %d of: %v", fault.KindOf(err), err)
	}
}

// TestFailures makes the library fail with and without the messages of failed allocations.
func TestFailures(t *testing.T) {
	b, setup, _ := openStandIn(t)
	for text, memory := range map[string]bool{
		"Exception during initialization: std::bad_alloc":                                                                 true,
		"CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc((void**)&p, size);":                         true,
		"void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool)\n Failed to allocate memory for requested buffer": true,
		"Missing Input: x": false,
	} {
		check := func(what string, err error) {
			t.Helper()
			if err == nil || (fault.KindOf(err) == fault.Memory) != memory || (fault.HintOf(err) != "") != memory || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: kind %d, hint %q of: %v", what, fault.KindOf(err), fault.HintOf(err), err)
			}
		}
		for _, device := range []string{"cpu", "cuda:0"} {
			model := backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}
			setup("load", text)
			_, err := b.Load(t.Context(), model, backend.Options{Device: device})
			check("Load", err)
			setup("append", text)
			if device != "cpu" && memory {
				_, err := b.Load(t.Context(), model, backend.Options{Device: device})
				check("append", err)
			}
			setup("run", text)
			s, err := b.Load(t.Context(), model, backend.Options{Device: device})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Run(t.Context(), nil)
			check("Run", err)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestArenaSplits allocates 2.9 and then 1 MB from an arena with one block of 4 MB: the second
// fits into the block if that is split.
func TestArenaSplits(t *testing.T) {
	b := open(t)
	var g backendtest.Graph
	for _, v := range []string{"a", "b"} {
		g.Node("Transpose", []string{v}, []string{v + "t"})
		g.Node("MatMul", []string{v, v + "t"}, []string{v + "v"})
		g.Input(v, tensor.F32, -1, 1)
		g.Output(v+"v", tensor.F32, -1, -1)
	}
	for dead, want := range map[int64]int64{0: 5_000_000, 512 << 10: 4_000_000} {
		t.Run(strconv.FormatInt(dead, 10), func(t *testing.T) {
			s, err := b.Load(t.Context(), backend.Model{Name: "two", Bytes: g.Bytes()},
				backend.Options{Device: "cpu", Threads: 1, Arena: backend.Arena{Growth: backend.GrowExact, MaxDead: dead}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, n := range [][2]int{{1000, 1}, {850, 500}} {
				in := map[string]*tensor.Tensor{"a": tensor.New(tensor.F32, n[0], 1), "b": tensor.New(tensor.F32, n[1], 1)}
				if _, err := s.Run(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			}
			if held, _, ok := s.(*session).arena.stats(); !ok || held < want || held > want+100_000 {
				t.Errorf("blocks of at most %d bytes too much: it holds %d bytes, not %d", dead, held, want)
			}
		})
	}
}

func TestBrief(t *testing.T) {
	for message, want := range map[string]string{
		"Missing Input:\n  x": "Missing Input: x",
		"/onnxruntime_src/cuda_call.cc:130 std::conditional_t<> CudaCall() CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; hostname=h ; file=/onnxruntime_src/conv.cc ; line=3 ; expr=cudnnConvolutionForward(x);": "CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR; expr=cudnnConvolutionForward(x);",
		"Non-zero status code returned while running Conv node. Name:'Conv_7' Status Message: CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=h":                                               "CUDA failure 700: an illegal memory access was encountered; Conv node. Name:'Conv_7'",
	} {
		if got := brief(message); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
