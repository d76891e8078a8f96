package onnxruntime

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/gputest"
)

// openWebGPU opens the library with the plugin for WebGPU on SwiftShader.
func openWebGPU(t *testing.T) *Backend {
	t.Helper()
	plugin := gputest.SwiftShader(t)
	b := open(t)
	b.Register(plugin.Runtime, plugin.Path, plugin.Needed...)
	return b
}

func TestWebGPUConformance(t *testing.T) {
	backendtest.SkipShort(t)
	gputest.SwiftShader(t) // or skip
	backendtest.Run(t, func(t *testing.T) backend.Backend { return backendtest.OnDevice(openWebGPU(t), "webgpu:0", false) })
}

// TestWebGPUCheck computes what a job tries a device with.
func TestWebGPUCheck(t *testing.T) {
	b := openWebGPU(t)
	list, err := b.Devices()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		t.Logf("%+v", d)
	}
	if err := backend.Check(t.Context(), b, "webgpu:0"); err != nil {
		t.Error(err)
	}
}
