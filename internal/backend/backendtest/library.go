package backendtest

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/tensor"
)

// RequireVariable, when set in the environment, makes tests fail that need a
// runtime which is not installed, as CI does. Otherwise they are skipped.
const RequireVariable = "LIPSTREAM_REQUIRE_RUNTIMES"

// absent ends a test for which something is not installed.
func absent(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(RequireVariable) != "" || os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Library returns the path of the installed library of a backend.
func Library(t testing.TB, name string) string {
	t.Helper()
	list, err := wheels.Candidates(t.Context(), name)
	if err != nil {
		absent(t, "%v; run: lipstream runtime install %s", err, name)
	}
	return list[0].Path
}

// swiftShaders are where packages of Chromium have the driver of SwiftShader, a GPU in
// software, for Vulkan.
var swiftShaders = []string{
	"/usr/lib/chromium/vk_swiftshader_icd.json",           // Debian
	"/usr/lib64/chromium-browser/vk_swiftshader_icd.json", // Fedora
	"/opt/google/chrome/vk_swiftshader_icd.json",
}

// SoftwareGPU returns the installed plugin for WebGPU and makes SwiftShader the only GPU
// of this process. It computes on the CPU, in float32 only.
func SoftwareGPU(t testing.TB) wheels.Library {
	t.Helper()
	list := wheels.Plugins()
	i := slices.IndexFunc(list, func(l wheels.Library) bool { return l.Runtime == wheels.WebGPU })
	if i < 0 {
		absent(t, "the plugin for WebGPU is not installed; run: lipstream runtime install webgpu")
	}
	if _, err := native.OpenSystem("libvulkan.so.1"); err != nil {
		absent(t, "Vulkan's loader is not installed: %v; run: make deps-test", err)
	}
	at := slices.IndexFunc(swiftShaders, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	if at < 0 {
		absent(t, "SwiftShader is not installed; run: make deps-test")
	}
	native.Setenv("VK_DRIVER_FILES", swiftShaders[at])
	native.Setenv("VK_ICD_FILENAMES", swiftShaders[at]) // the older name
	native.Setenv("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")
	return list[i]
}

// OnDevice returns a Backend like b that loads on the named device what is to be loaded
// on the CPU, so that Run checks that device. half is whether the device has float16.
func OnDevice(b backend.Backend, device string, half bool) backend.Backend {
	return onDevice{b, device, half}
}

type onDevice struct {
	backend.Backend
	device string
	half   bool
}

func (d onDevice) Load(ctx context.Context, m backend.Model, o backend.Options) (backend.Session, error) {
	if o.Device == "cpu" {
		o.Device = d.device
	}
	return d.Backend.Load(ctx, m, o)
}

func (d onDevice) Upload(ctx context.Context, device string, t *tensor.Tensor) (backend.Value, error) {
	if device == "cpu" {
		device = d.device
	}
	return d.Backend.Upload(ctx, device, t)
}
