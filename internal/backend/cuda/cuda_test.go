package cuda

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/stub"
)

// source is a driver with two GPUs. INIT is what cuInit returns.
const source = `
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *v) { *v = 12080; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i + 10; return i < 2 ? 0 : 101; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 10 ? "NVIDIA L4" : "NVIDIA T4", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? (d == 10 ? 8 : 7) : a == 76 ? (d == 10 ? 9 : 5) : -1; return 0; }
int cuDeviceGetUuid(unsigned char *u, int d) { for (int i = 0; i < 16; i++) u[i] = 16 * i + d; return d == 10 ? 0 : 1; }
int cuGetErrorString(int code, const char **s) { if (code != 999) return 1; *s = "unknown error"; return 0; }
`

func TestRead(t *testing.T) {
	got, err := read(stub.Library(t, "#define INIT 0\n"+source))
	want := Driver{CUDA: 12080, Devices: []Device{
		{Index: 0, Name: "NVIDIA L4", UUID: "GPU-0a1a2a3a-4a5a-6a7a-8a9a-aabacadaeafa", Capability: "8.9"},
		{Index: 1, Name: "NVIDIA T4", Capability: "7.5"},
	}}
	if err != nil || got.CUDA != want.CUDA || !slices.Equal(got.Devices, want.Devices) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestReadFails(t *testing.T) {
	if got, err := read(stub.Library(t, "#define INIT 100\n"+source)); err != nil || got.CUDA != 12080 || got.Devices != nil {
		t.Errorf("a driver without GPUs: %+v, %v", got, err)
	}
	if _, err := read(stub.Library(t, "#define INIT 999\n"+source)); err == nil || !strings.Contains(err.Error(), "cuInit: unknown error (999)") {
		t.Errorf("a broken driver: %v", err)
	}
	if _, err := read(stub.Library(t, "int other;")); err == nil || !strings.Contains(err.Error(), "lacks cuInit") {
		t.Errorf("another library: %v", err)
	}
	if _, err := read("libnothing.so.1"); !errors.Is(err, ErrNoDriver) {
		t.Errorf("no driver: %v", err)
	}
}
