package onnxruntime

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/backendtest"
	"github.com/lipstream/lipstream/internal/backend/gputest"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/onnx"
	"github.com/lipstream/lipstream/internal/stub"
	"github.com/lipstream/lipstream/internal/tensor"
)

const webGPU = "webgpu:0"

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
	backendtest.Run(t, func(t *testing.T) backend.Backend { return backendtest.OnDevice(openWebGPU(t), webGPU, false) })
}

// TestWebGPUCheck computes what a job tries a device with.
func TestWebGPUCheck(t *testing.T) {
	backendtest.SkipShort(t)
	b := openWebGPU(t)
	list, err := b.Devices()
	if err != nil {
		t.Fatal(err)
	}
	if list[0].ID != "cpu" {
		t.Errorf("the default device is %s", list[0].ID)
	}
	if last := list[len(list)-1]; last.ID != webGPU || !strings.Contains(last.Name, "WebGPU") || last.Err != nil || !last.Resident {
		t.Errorf("the last device is %+v", last)
	}
	if err := backend.Check(t.Context(), b, webGPU); err != nil {
		t.Error(err)
	}
	if backend.HasHalf(t.Context(), b, webGPU) {
		t.Error("SwiftShader has float16")
	}
}

// TestWebGPUUpload copies tensors of each element type to the GPU and back.
func TestWebGPUUpload(t *testing.T) {
	gputest.SwiftShader(t) // or skip
	if !backendtest.InChild(t) {
		return
	}
	b := openWebGPU(t)
	for _, d := range []tensor.DType{tensor.F32, tensor.F16, tensor.I64, tensor.U8} {
		x := tensor.New(d, 2, 3)
		for i := range x.Data {
			x.Data[i] = byte(i + 1)
		}
		v, err := b.Upload(t.Context(), webGPU, x)
		if err != nil {
			t.Errorf("%v: %v", d, err)
			continue
		}
		if _, ok := backend.HostTensor(v); ok {
			t.Errorf("%v: it has stayed in the memory of the process", d)
		}
		back, err := v.Host(t.Context())
		if err != nil || back.DType != d || string(back.Data) != string(x.Data) {
			t.Errorf("%v: got %v, %v", d, back, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}

	// A session takes what was copied before it was loaded, and leaves a result that
	// outlives it, the last session on the GPU.
	x, err := b.Upload(t.Context(), webGPU, tensor.FromF32([]float32{1, 2, 3}, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	g := onnx.New("double")
	in := g.Input("x", tensor.F32, 3)
	g.Output("y", g.Op("Add", []onnx.Value{in, in}), tensor.F32, 3)
	s, err := b.Load(t.Context(), backend.Model{Name: g.Name(), Graph: g}, backend.Options{Device: webGPU})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.RunValues(t.Context(), map[string]backend.Value{"x": x}, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	defer out["y"].Close()
	y, err := out["y"].Host(t.Context())
	if err != nil || !slices.Equal(y.F32(), []float32{2, 4, 6}) {
		t.Errorf("got %v, %v", y, err)
	}
}

// TestNoAdapter has a plugin and a driver without a GPU.
func TestNoAdapter(t *testing.T) {
	gputest.SwiftShader(t) // or skip
	if !backendtest.InChild(t) {
		return
	}
	b := openWebGPU(t)
	for _, name := range []string{"VK_DRIVER_FILES", "VK_ICD_FILENAMES"} {
		native.Setenv(name, filepath.Join(t.TempDir(), "none.json"))
	}
	_, err := b.Load(t.Context(), backend.Model{Name: "smoke", Bytes: backendtest.SmokeGraph()}, backend.Options{Device: webGPU})
	if fault.KindOf(err) != fault.Missing || !strings.Contains(err.Error(), webGPU) || !strings.Contains(fault.HintOf(err), "libvulkan1") {
		t.Errorf("kind %d, hint %q of: %v", fault.KindOf(err), fault.HintOf(err), err)
	}
}

// TestBrokenPlugin registers libraries that are no plugins: the CPU must stay usable.
func TestBrokenPlugin(t *testing.T) {
	backendtest.Library(t, Name) // or skip
	if !backendtest.InChild(t) { // in which no plugin is loaded yet
		return
	}
	stub := stub.Library(t, "int x;")
	for name, path := range map[string]string{
		"missing":   filepath.Join(t.TempDir(), "libnone.so"),
		"no plugin": stub,
	} {
		b := open(t)
		b.Register(wheels.WebGPU, path)
		list, err := b.Devices()
		if err != nil {
			t.Fatal(err)
		}
		d := list[len(list)-1]
		if d.ID != webGPU || fault.KindOf(d.Err) != fault.Missing || !strings.Contains(fault.HintOf(d.Err), "install webgpu") {
			t.Errorf("%s: %+v, hint %q", name, d, fault.HintOf(d.Err))
		}
		_, err = b.Load(t.Context(), backend.Model{Name: "smoke", Bytes: backendtest.SmokeGraph()}, backend.Options{Device: webGPU})
		if fault.KindOf(err) != fault.Missing {
			t.Errorf("%s: Load: %v", name, err)
		}
		if err := backend.Smoke(t.Context(), b); err != nil {
			t.Errorf("%s: the CPU: %v", name, err)
		}
	}
}
