package openvino

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/stub"
)

// standIn lists the functions of a library that count and fail on demand. All others succeed
// and do nothing.
var standIn = map[string]string{
	"ov_get_openvino_version":                `int %s(const char **v) { v[0] = "2026.4.1-1-x"; return 0; }`,
	"ov_version_free":                        `void %s(void *v) { (void)v; }`,
	"ov_get_last_err_msg":                    `char *%s(void) { return strdup(text); }`,
	"ov_free":                                `void %s(void *p) { free(p); }`,
	"ov_core_get_property":                   `int %s(void *c, void *d, void *k, char **out) { (void)c; (void)d; (void)k; *out = strdup("FP32"); return 0; }`,
	"ov_core_compile_model_props":            `int %s(void *c, void *m, void *d, size_t n, void *p, void **out) { (void)c; (void)m; (void)d; (void)n; (void)p; compiled++; *out = &compiled; return fail == 1 ? -1 : 0; }`,
	"ov_compiled_model_create_infer_request": `int %s(void *c, void **out) { (void)c; *out = &compiled; return 0; }`,
	"ov_infer_request_wait":                  `int %s(void *r) { (void)r; return fail == 2 ? -17 : 0; }`,
	"ov_model_inputs_size":                   `int %s(void *m, size_t *n) { (void)m; *n = 0; return 0; }`,
	"ov_model_outputs_size":                  `int %s(void *m, size_t *n) { (void)m; *n = 0; return 0; }`,
}

// TestFailures makes the library fail in compiling and computing, with and without the
// messages of failed allocations.
func TestFailures(t *testing.T) {
	var source strings.Builder
	source.WriteString(`
#include <stdlib.h>
#include <string.h>
static int fail, compiled;
static const char *text;
void setup(int what, const char *message) { fail = what; text = strdup(message); }
int count(void) { return compiled; }
`)
	for _, f := range (&api{}).funcs() {
		code, ok := standIn[f.Name]
		if !ok {
			code = "int %s(void) { return 0; }"
		}
		fmt.Fprintf(&source, code+"\n", f.Name)
	}
	lib, err := native.Open(stub.Library(t, source.String()), "")
	if err != nil {
		t.Fatal(err)
	}
	var setup func(what int32, message string)
	var count func() int32
	if err := lib.Bind("", native.Func{Name: "setup", Ptr: &setup}, native.Func{Name: "count", Ptr: &count}); err != nil {
		t.Fatal(err)
	}
	a, version, err := loadAPI(lib)
	if err != nil {
		t.Fatal(err)
	}
	b := &Backend{api: a, version: version, core: 1}
	const never, compiling, computing = 0, 1, 2
	for text, memory := range map[string]bool{
		"Exception from src/inference/src/cpp/core.cpp:109:\nException from src/inference/src/dev/plugin.cpp:53:\n" +
			"Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\nFailed to allocate 7663872811008 bytes of memory": true,
		"Exception from src/inference/src/cpp/infer_request.cpp:245:\n[GPU] CL_OUT_OF_RESOURCES exception.\n\tDue to a driver bug": true,
		"std::bad_alloc":           true,
		"Failed to get input size": false,
	} {
		kinds := map[bool]fault.Kind{true: fault.Memory}
		model := backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}
		check := func(what string, err error, otherwise fault.Kind) {
			t.Helper()
			kinds[false] = otherwise
			if fault.KindOf(err) != kinds[memory] || (fault.HintOf(err) != "") != memory || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: kind %d, hint %q of: %v", what, fault.KindOf(err), fault.HintOf(err), err)
			}
		}
		setup(compiling, text)
		_, err := b.Load(t.Context(), model, backend.Options{Device: "cpu"})
		check("Load", err, fault.Input)

		setup(computing, text)
		s, err := b.Load(t.Context(), model, backend.Options{Device: "cpu"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Run(t.Context(), nil)
		check("Run", err, fault.Internal)

		// It compiles again only after a failed allocation, and until that succeeds.
		before, want := count(), int32(0)
		if memory {
			want = 2
			setup(compiling, text)
			_, err = s.Run(t.Context(), nil)
			check("compiling anew", err, fault.Internal)
		}
		setup(never, "")
		for range 2 {
			if _, err := s.Run(t.Context(), nil); err != nil {
				t.Errorf("after %q: %v", text, err)
			}
		}
		if n := count() - before; n != want {
			t.Errorf("after %q: compiled %d times, not %d", text, n, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Run(t.Context(), nil); err == nil {
			t.Error("Run after Close: no error")
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestCompilesSideBySide: while a graph is compiled, the pages of another can be dropped.
// Otherwise graphs are loaded one after the other.
func TestCompilesSideBySide(t *testing.T) {
	b := openBackend(t).(*Backend)
	compile, compiled := b.api.compile, false
	b.api.compile = func(core, model handle, device string, n uintptr, props *property, out *handle) int32 {
		if compiled = b.mapping.TryLock(); compiled {
			b.mapping.Unlock()
		}
		return compile(core, model, device, n, props, out)
	}
	s, err := b.Load(t.Context(), backend.Model{Name: "m", Bytes: backendtest.SmokeGraph()}, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !compiled {
		t.Error("a graph waits until another is compiled")
	}
}
