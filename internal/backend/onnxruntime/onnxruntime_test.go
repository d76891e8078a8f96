package onnxruntime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/stub"
)

// open opens the installed library for a test.
func open(t *testing.T) *Backend {
	t.Helper()
	b, err := Open(t.Context(), backendtest.Library(t, Name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openBackend(t *testing.T) backend.Backend { return open(t) }

// TestConformance checks the CPU, or the device in LIPSTREAM_TEST_DEVICE.
func TestConformance(t *testing.T) {
	backendtest.Library(t, Name) // or skip
	device := backendtest.Device()
	if device == "cpu" {
		backendtest.Run(t, openBackend)
		return
	}
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		b := openFor(t, device)
		return backendtest.OnDevice(b, device, backend.HasHalf(t.Context(), b, device))
	})
}

// openFor opens a library that has the device. If there is none, the test fails: the device
// was asked for.
func openFor(t *testing.T, device string) *Backend {
	t.Helper()
	list, err := wheels.Candidates(t.Context(), Name)
	if err != nil {
		t.Fatal(err)
	}
	at := max(0, slices.IndexFunc(list, func(l wheels.Library) bool { return l.CUDA() == strings.HasPrefix(device, "cuda:") }))
	b, err := Open(t.Context(), list[at].Path, list[at].Needed...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range wheels.Plugins() {
		if strings.HasPrefix(device, p.Runtime+":") {
			b.Register(p.Runtime, p.Path, p.Needed...)
		}
	}
	return b
}

// source is the source of a library; the results of OrtGetApiBase and GetApi are
// inserted into it.
const source = `
#include <stddef.h>
#include <stdint.h>
static void *table[400];
static void fill(int upto) { for (int i = 0; i < upto; i++) table[i] = (void *)fill; }
static const void *api(uint32_t version) { (void)version; %s }
static const char *version(void) { return "%s"; }
static struct { const void *(*get)(uint32_t); const char *(*version)(void); } base = {%s};
const void *OrtGetApiBase(void) { return %s; }
`

func TestOpenStub(t *testing.T) {
	const good = "api, version"
	for _, c := range []struct{ name, api, version, base, result, want string }{
		{"old", "return table;", "1.16.3", good, "&base", "it is ONNX Runtime 1.16.3; version 1.23 or later"},
		{"next major", "return table;", "2.0.0", good, "&base", "it is ONNX Runtime 2.0.0"},
		{"no version", "return table;", "banana", good, "&base", `its version is "banana"`},
		{"no interface", "return NULL;", "1.32.0", good, "&base", "does not offer version 23"},
		{"empty table", "return table;", "1.32.0", good, "&base", "has no function"},
		{"short table", "fill(300); return table;", "1.32.0", good, "&base", "has no function"},
		{"no functions", "return table;", "1.32.0", "0, 0", "&base", "returns no functions"},
		{"no base", "return table;", "1.32.0", good, "NULL", "returns no functions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefused(t, stub.Library(t, fmt.Sprintf(source, c.api, c.version, c.base, c.result)), c.want)
		})
	}
	t.Run("missing symbol", func(t *testing.T) {
		checkRefused(t, stub.Library(t, "int x;"), "it lacks OrtGetApiBase")
	})
	t.Run("missing file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "libonnxruntime.so")
		_, err := os.Stat(path)
		checkRefused(t, path, fault.WithoutPath(err).Error())
	})
}

func TestOpenTruncated(t *testing.T) {
	whole, err := os.ReadFile(backendtest.Library(t, Name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(path, whole[:len(whole)/3], 0o600); err != nil {
		t.Fatal(err)
	}
	checkRefused(t, path, "")
}

func checkRefused(t *testing.T, path, want string) {
	t.Helper()
	b, err := Open(t.Context(), path)
	if err == nil {
		_ = b.Close()
		t.Fatal("no error")
	}
	t.Log(err)
	if !strings.Contains(err.Error(), want) {
		t.Errorf("it does not say %q", want)
	}
	if fault.KindOf(err) != fault.Missing || !strings.Contains(fault.HintOf(err), "runtime install onnxruntime") {
		t.Errorf("kind %d, hint %q", fault.KindOf(err), fault.HintOf(err))
	}
}
