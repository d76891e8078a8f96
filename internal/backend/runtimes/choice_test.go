package runtimes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/backend/gputest"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/stub"
)

// cudaBuild makes a folder that looks like a build of ONNX Runtime with CUDA: the
// library of the CPU, and a provider that needs cuBLAS.
func cudaBuild(t *testing.T) {
	t.Helper()
	real := backendtest.Library(t, "onnxruntime")
	dir := t.TempDir()
	stub.At(t, filepath.Join(dir, "libcublas.so"), "int x;", "-Wl,-soname,libcublas.so.13")
	stub.At(t, filepath.Join(dir, "libonnxruntime_providers_cuda.so"), "int x;", "-Wl,--no-as-needed", "-L"+dir, "-lcublas")
	if err := os.Symlink(real, filepath.Join(dir, filepath.Base(real))); err != nil {
		t.Fatal(err)
	}
	t.Setenv(wheels.DirVariable, dir)
}

// TestWithoutGPU: a build for GPUs serves the CPU where no GPU works.
func TestWithoutGPU(t *testing.T) {
	cudaBuild(t)
	for _, c := range []Choice{{}, {Backend: "onnxruntime"}, {Device: "cpu"}} {
		o, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if o.Name() != "onnxruntime" || o.Device.ID != "cpu" || o.Device.Err != nil {
			t.Errorf("%+v: %s, %+v", c, o.Name(), o.Device)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDeviceIsMissing: the error says what to do about the device that was asked for.
func TestDeviceIsMissing(t *testing.T) {
	t.Run("with a build for GPUs", func(t *testing.T) {
		if _, err := cuda.Read(); err == nil {
			t.Skip("this machine has a driver")
		}
		cudaBuild(t)
		_, err := Open(t.Context(), Choice{Device: "cuda:0"})
		if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), "no NVIDIA driver") || !strings.Contains(fault.HintOf(err), "driver") {
			t.Errorf("%v, hint %q", err, fault.HintOf(err))
		}
	})
	t.Run("without", func(t *testing.T) {
		t.Setenv(wheels.DirVariable, filepath.Dir(backendtest.Library(t, "onnxruntime")))
		_, err := Open(t.Context(), Choice{Device: "cuda:0"})
		if fault.KindOf(err) != fault.Missing || !strings.HasSuffix(fault.HintOf(err), "runtime install cuda") {
			t.Errorf("%v, hint %q", err, fault.HintOf(err))
		}
		_, err = Open(t.Context(), Choice{Backend: "onnxruntime", Device: "gpu:7"})
		if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "choose one of cpu") {
			t.Errorf("%v, hint %q", err, fault.HintOf(err))
		}
	})
}

// TestTwoLibrariesForACard: a card that only the second library can use is not reported as
// unused.
func TestTwoLibrariesForACard(t *testing.T) {
	tooNew, broken := errors.New("CUDA failure 35"), errors.New("it computes wrong")
	s := search{skipped: []skipped{{"cuda:0", tooNew}, {"cuda:1", broken}}}
	if got := s.unused("cuda:0"); len(got) != 1 || got[0] != broken {
		t.Errorf("cuda:0 is used: %v", got)
	}
	if got := s.unused("cpu"); len(got) != 2 {
		t.Errorf("the CPU is used: %v", got)
	}
	if got := s.failure(); got != tooNew {
		t.Errorf("no device is used: %v", got)
	}
}

// TestPlugins: they are loaded to list or use their devices, not for NVIDIA's cards.
func TestPlugins(t *testing.T) {
	for c, want := range map[Choice]bool{
		{}: false, {Device: "cpu"}: false, {Device: "cuda:0"}: false, {Device: "cuda:0", Plugins: true}: true,
		{Device: "webgpu:0"}: true, {Device: "tensorrt-rtx:0"}: true, {Device: "unknown:0"}: true,
	} {
		if c.plugins() != want {
			t.Errorf("%+v: %v", c, c.plugins())
		}
	}
}

// TestPluginDevice chooses the device of a plugin of ONNX Runtime.
func TestPluginDevice(t *testing.T) {
	plugin := gputest.SwiftShader(t)
	t.Run("installed", func(t *testing.T) {
		backendtest.SkipShort(t)
		o, err := Open(t.Context(), Choice{Device: "webgpu:0"})
		if err != nil {
			t.Fatal(err)
		}
		if o.Name() != "onnxruntime" || o.Device.ID != "webgpu:0" {
			t.Errorf("%s, %+v", o.Name(), o.Device)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err := Open(t.Context(), Choice{Backend: "openvino", Device: "webgpu:0"})
	if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "onnxruntime") {
		t.Errorf("openvino: %v, hint %q", err, fault.HintOf(err))
	}
	t.Setenv(wheels.DirVariable, filepath.Dir(backendtest.Library(t, "onnxruntime")))
	_, err = Open(t.Context(), Choice{Device: "webgpu:0"})
	if fault.KindOf(err) != fault.Missing || !strings.HasSuffix(fault.HintOf(err), "runtime install webgpu") {
		t.Errorf("without the plugin: %v, hint %q", err, fault.HintOf(err))
	}
	t.Setenv(wheels.DirVariable, filepath.Dir(plugin.Path))
	_, err = Open(t.Context(), Choice{Device: "webgpu:0"})
	if fault.KindOf(err) != fault.Missing || fault.HintOf(err) == "" {
		t.Errorf("without ONNX Runtime: %v, hint %q", err, fault.HintOf(err))
	}
}
