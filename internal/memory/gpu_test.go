package memory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lipstream/lipstream/internal/stub"
)

func TestDRM(t *testing.T) {
	linuxOnly(t)
	root := fakeRoot(t, map[string]string{
		"sys/class/drm/card1/device/vendor":                         "0x1002\n",
		"sys/class/drm/card1/device/device":                         "0x744c\n",
		"sys/class/drm/card1/device/mem_info_vram_total":            "25753026560\n",
		"sys/class/drm/card1/device/mem_info_vram_used":             "1048576\n",
		"sys/class/drm/card1-HDMI-A-1/device/vendor":                "0x1002\n",
		"sys/class/drm/card10/device/vendor":                        "0x1002\n",
		"sys/class/drm/card10/device/product_name":                  "AMD Radeon PRO W7900\n",
		"sys/class/drm/card1/device/gpu_busy_percent":               "37\n",
		"sys/class/drm/card1/device/hwmon/hwmon3/temp1_input":       "61500\n",
		"sys/class/drm/card1/device/hwmon/hwmon3/power1_average":    "203000000\n",
		"sys/class/drm/card10/device/mem_info_vram_total":           "garbage\n",
		"sys/class/drm/card10/device/gpu_busy_percent":              "garbage\n",
		"sys/class/drm/card10/device/hwmon/hwmon4/temp1_input":      "garbage\n",
		"sys/class/drm/card3/device/hwmon/hwmon5/temp2_input":       "48000\n",
		"sys/class/drm/card2/device/vendor":                         "0x8086\n",
		"sys/class/drm/card2/device/device":                         "0x9a49\n",
		"sys/class/drm/card3/device/vendor":                         "0x8086\n",
		"sys/class/drm/card3/device/device":                         "0xe20b\n",
		"sys/class/drm/card3/device/tile0/physical_vram_size_bytes": "0x300000000\n",
		"sys/class/drm/card4/device/vendor":                         "0x8086\n",
		"sys/class/drm/card4/device/device":                         "0x56a0\n",
		"sys/class/drm/card4/lmem_total_bytes":                      "17179869184\n",
		"sys/class/drm/card4/lmem_avail_bytes":                      "17000000000\n",
		"sys/class/drm/card5/device/vendor":                         "0x10de\n",
		"sys/class/drm/card6/none":                                  "",
		"sys/class/drm/version":                                     "drm 1.1.0\n",
		"sys/bus/pci/drivers/amdgpu/bind":                           "",
		"sys/module/amdgpu/version":                                 "6.10.5\n",
		"sys/bus/pci/drivers/i915/bind":                             "",
		"sys/class/drm/renderD128/device/vendor":                    "0x1002\n",
	})
	for card, driver := range map[string]string{"card1": "amdgpu", "card2": "i915"} {
		link := filepath.Join(root, "sys/class/drm", card, "device/driver")
		if err := os.Symlink("../../../../bus/pci/drivers/"+driver, link); err != nil {
			t.Fatal(err)
		}
	}
	want := []GPU{
		{Vendor: "amd", Index: 0, Name: "amd GPU 0x744c", Driver: "amdgpu 6.10.5", Total: 25753026560, Used: 1048576,
			Utilisation: 0.37, Temperature: 61.5, Power: 203},
		{Vendor: "intel", Index: 0, Name: "intel GPU 0x9a49", Driver: "i915", Shared: true, Utilisation: -1},
		{Vendor: "intel", Index: 1, Name: "intel GPU 0xe20b", Total: 12 * gib, Utilisation: -1, Temperature: 48},
		{Vendor: "intel", Index: 2, Name: "intel GPU 0x56a0", Total: 17179869184, Used: 179869184, Utilisation: -1},
		{Vendor: "amd", Index: 1, Name: "AMD Radeon PRO W7900", Utilisation: -1},
	}
	if d := cmp.Diff(want, Probe{Root: root}.drmGPUs()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if free := want[3].Free(); free != 17000000000 {
		t.Errorf("free %d", free)
	}
}

// nvmlStub is a library with two GPUs and one that has fallen off the bus.
// INIT, DEVICES and the like are set by the tests.
const nvmlStub = `
#include <string.h>
#ifndef INIT
#define INIT 0
#endif
typedef struct { unsigned long long total, free, used; } memory;
static int open_count;
int nvmlInit_v2(void) { if (INIT == 0) open_count++; return INIT; }
int nvmlShutdown(void) { return open_count-- > 0 ? 0 : 1; }
const char *nvmlErrorString(int r) { return r == 18 ? "Driver/library version mismatch" : r == 15 ? "GPU is lost" : "Other"; }
#ifndef OLD
int nvmlSystemGetDriverVersion(char *v, unsigned int n) { if (n < 80) return 7; strcpy(v, "570.86.10"); return 0; }
#endif
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 4; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) {
  if (i == 1) return 15;
  *d = (void *)(0x1000ul + i);
  return 0;
}
int nvmlDeviceGetName(void *d, char *s, unsigned int n) {
  if (n < 96) return 7;
  if (d == (void *)0x1002ul) return 999;
  strcpy(s, d == (void *)0x1000ul ? "NVIDIA GeForce RTX 5090" : "NVIDIA GB10");
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
  if (d == (void *)0x1003ul) return 3;
  m->total = 34190917632ull; m->free = 30000000000ull; m->used = 4000000000ull;
  return 0;
}
#ifndef BARE
typedef struct { unsigned int gpu, memory; } utilization;
int nvmlDeviceGetUtilizationRates(void *d, utilization *u) {
  if (d != (void *)0x1000ul) return 3;
  u->gpu = 83; u->memory = 40;
  return 0;
}
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned int *t) {
  if (sensor != 0) return 2;
  if (d == (void *)0x1002ul) return 999;
  *t = 71;
  return 0;
}
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu, compute; } process;
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned int *n, process *p) {
  if (d != (void *)0x1000ul) return 3;
  if (*n < 3) return 7;
  *n = 3;
  p[0] = (process){2147483646u, 1000, 0, 0};
  p[1] = (process){2147483645u, ~0ull, 0, 0};
  p[2] = (process){2147483644u, 2000, 0, 0};
  return 0;
}
int nvmlDeviceGetUUID(void *d, char *s, unsigned int n) {
  if (d != (void *)0x1000ul) return 3;
  strncpy(s, "GPU-8d2c", n);
  return 0;
}
int nvmlDeviceGetPowerUsage(void *d, unsigned int *mw) {
  if (d != (void *)0x1000ul) return 3;
  *mw = 412500;
  return 0;
}
#endif
`

// buildStub compiles nvmlStub.
func buildStub(t *testing.T, flags ...string) string {
	t.Helper()
	return stub.At(t, filepath.Join(t.TempDir(), "libnvidia-ml.so.1"), nvmlStub, flags...)
}

func TestNVML(t *testing.T) {
	want := []GPU{
		{Vendor: "nvidia", Index: 0, Name: "NVIDIA GeForce RTX 5090", Driver: "570.86.10", Total: 34190917632, Used: 4190917632,
			UUID: "GPU-8d2c", Utilisation: 0.83,
			Processes: []GPUProcess{{PID: 2147483644, Used: 2000}, {PID: 2147483646, Used: 1000}}, Temperature: 71, Power: 412.5},
		{Vendor: "nvidia", Index: 2, Name: "NVIDIA GPU 2", Driver: "570.86.10", Total: 34190917632, Used: 4190917632, Utilisation: -1},
		{Vendor: "nvidia", Index: 3, Name: "NVIDIA GB10", Driver: "570.86.10", Shared: true, Utilisation: -1, Temperature: 71},
	}
	t.Run("all", func(t *testing.T) { checkNVML(t, want) })
	for i := range want {
		want[i].Utilisation, want[i].Temperature, want[i].Power, want[i].UUID, want[i].Processes = -1, 0, 0, "", nil
	}
	t.Run("without the functions that are nice to have", func(t *testing.T) { checkNVML(t, want, "-DBARE") })
}

func checkNVML(t *testing.T, want []GPU, flags ...string) {
	p := Probe{Root: t.TempDir(), NVML: buildStub(t, flags...)}
	r := p.OpenGPUs()
	for range 3 { // a reader can be used repeatedly
		got, err := r.Read()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if err == nil || !strings.Contains(err.Error(), "GPU is lost (15)") {
			t.Errorf("error %v", err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error("second Close:", err)
	}
}

func TestNVMLAbsentOrBroken(t *testing.T) {
	tests := []struct {
		name  string
		flags []string
		want  string // in the error; "" for none
	}{
		{"driver not loaded", []string{"-DINIT=9"}, ""},
		{"mismatch after an update", []string{"-DINIT=18"}, "Driver/library version mismatch (18)"},
		{"not the library that we know", []string{"-DOLD"}, "nvmlSystemGetDriverVersion"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gpus, err := Probe{Root: t.TempDir(), NVML: buildStub(t, tt.flags...)}.GPUs()
			if len(gpus) != 0 || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v", gpus, err)
			}
		})
	}
	linuxOnly(t)
	missing := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if _, err := (Probe{Root: t.TempDir(), NVML: missing}).GPUs(); err == nil {
		t.Error("no error for a library that was named and is not there")
	}
}
