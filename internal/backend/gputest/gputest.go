// Package gputest has a GPU in software, for tests of WebGPU on machines without a GPU.
package gputest

import (
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
)

// swiftShaders are where packages of Chromium have the driver of SwiftShader, a GPU in
// software, for Vulkan.
var swiftShaders = []string{
	"/usr/lib/chromium/vk_swiftshader_icd.json",           // Debian
	"/usr/lib64/chromium-browser/vk_swiftshader_icd.json", // Fedora
	"/opt/google/chrome/vk_swiftshader_icd.json",
}

// SwiftShader returns the installed plugin for WebGPU and makes SwiftShader the only GPU
// of this process. It computes on the CPU, in float32 only. The test is skipped where it is not
// Linux.
func SwiftShader(t testing.TB) wheels.Library {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("SwiftShader is only searched on Linux")
	}
	list := wheels.Plugins()
	i := slices.IndexFunc(list, func(l wheels.Library) bool { return l.Runtime == wheels.WebGPU })
	if i < 0 {
		backendtest.Absent(t, "the plugin for WebGPU is not installed; run: lipstream runtime install webgpu")
	}
	if _, err := native.OpenSystem("libvulkan.so.1"); err != nil {
		backendtest.Absent(t, "Vulkan's loader is not installed: %v; run: make deps-test", err)
	}
	at := slices.IndexFunc(swiftShaders, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	if at < 0 {
		backendtest.Absent(t, "SwiftShader is not installed; run: make deps-test")
	}
	native.Setenv("VK_DRIVER_FILES", swiftShaders[at])
	native.Setenv("VK_ICD_FILENAMES", swiftShaders[at]) // the older name
	native.Setenv("ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER", "1")
	return list[i]
}
