package wheels

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestPlugins finds installed plugins, which are no candidates for the backend themselves.
func TestPlugins(t *testing.T) {
	emptyCache(t)
	t.Setenv("PATH", t.TempDir()) // without Python
	t.Setenv(DirVariable, "")
	if list := Plugins(); len(list) != 0 {
		t.Errorf("before: %+v", list)
	}
	at := func(p Package, name string) string {
		dir, err := p.archive().Dir()
		if err != nil {
			t.Fatal(err)
		}
		return write(t, filepath.Join(dir, name), nil, 0o600)
	}
	onnx := at(onnxCPU, fileName("onnxruntime", ""))
	web := at(webGPU.Packages[0], fileName("onnxruntime_providers_webgpu", ""))
	rtx := tensorRTRTX.Packages[0]
	needed := []string{at(rtx, fileName("cudart", "13")), at(rtx, fileName("tensorrt_rtx", "1")), at(rtx, fileName("tensorrt_onnxparser_rtx", "1"))}
	plugin := at(rtx, fileName("onnxruntime_providers_nv_tensorrt_rtx", ""))

	list := Plugins()
	if len(list) != 2 || list[0].Runtime != WebGPU || list[0].Path != web || list[0].Needed != nil {
		t.Errorf("got %+v", list)
	} else if list[1].Runtime != TensorRTRTX || list[1].Path != plugin || !slices.Equal(list[1].Needed, needed) {
		t.Errorf("got %+v", list[1])
	}
	if all, err := Candidates(t.Context(), "onnxruntime"); err != nil || len(all) != 1 || all[0].Path != onnx {
		t.Errorf("candidates: %+v, %v", all, err)
	}
	if l, err := Find(t.Context(), WebGPU); err != nil || l.Path != web || !slices.Equal(l.Needed, []string{onnx}) {
		t.Errorf("Find: %+v, %v", l, err)
	}

	given := t.TempDir()
	t.Setenv(DirVariable, given)
	if list := Plugins(); len(list) != 0 {
		t.Errorf("in an empty folder: %+v", list)
	}
	web = write(t, filepath.Join(given, "onnxruntime_ep_webgpu", fileName("onnxruntime_providers_webgpu", "")), nil, 0o600)
	if list := Plugins(); len(list) != 1 || list[0].Path != web || list[0].Source != DirVariable {
		t.Errorf("in %s: %+v", DirVariable, list)
	}
}
