package wheels

// The runtimes that are plugins of ONNX Runtime.
const (
	WebGPU      = "webgpu"
	TensorRTRTX = "tensorrt-rtx"
)

// onnxForPlugins is the CPU's ONNX Runtime, which a plugin is installed with. Only this
// version is used from Python: the plugins need 1.24.4 or later.
var onnxForPlugins = func() Package {
	p := onnxCPU
	p.needed = []library{{"onnxruntime", p.Version}}
	return p
}()

var webGPU = Runtime{
	Name: WebGPU, Backend: "onnxruntime", library: "onnxruntime_providers_webgpu", plugin: true,
	About: "WebGPU for ONNX Runtime: GPUs of any maker, through Vulkan",
	Packages: []Package{{
		Project: "onnxruntime-ep-webgpu", Version: "0.4.0", places: []place{{"onnxruntime_ep_webgpu", ""}},
		keep: []string{
			"onnxruntime_ep_webgpu/libonnxruntime_providers_webgpu.so",
			"onnxruntime_ep_webgpu-*.dist-info/licenses/*",
		},
		files: map[string]wheel{
			"linux/amd64": {"manylinux_2_28_x86_64", "5d8c961eda91a88961cad1fb7621f389f006b18497d6ea9ecf96f729f066cbfb", 6892120},
			"linux/arm64": {"manylinux_2_28_aarch64", "17f660db53b1a509c63e721ac6784a2daa1c4e91a968523ee9986505ee5b0a55", 6096222},
		},
	}, onnxForPlugins},
}

var tensorRTRTX = Runtime{
	Name: TensorRTRTX, Backend: "onnxruntime", library: "onnxruntime_providers_nv_tensorrt_rtx", plugin: true,
	About: "NVIDIA's TensorRT for RTX cards from Ampere, with CUDA 13; not tested on a card yet",
	Packages: []Package{{
		Project: "onnxruntime-ep-nv-tensorrt-rtx-cu13", Version: "0.5.0", places: []place{{"onnxruntime_ep_nv_tensorrt_rtx", ""}},
		keep: []string{
			"onnxruntime_ep_nv_tensorrt_rtx/lib*.so*",
			"onnxruntime_ep_nv_tensorrt_rtx/*.txt",
		},
		needed: []library{{"cudart", "13"}, {"tensorrt_rtx", "1"}, {"tensorrt_onnxparser_rtx", "1"}},
		files: map[string]wheel{
			"linux/amd64": {"manylinux_2_28_x86_64", "32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298", 146476965},
		},
	}, onnxForPlugins},
}

// Plugins lists the installed plugins of ONNX Runtime, or those in the folder in
// LIPSTREAM_RUNTIME_DIR if it is set.
func Plugins() []Library {
	var list []Library
	for _, r := range table {
		if !r.plugin {
			continue
		}
		p := r.Packages[0]
		dirs, source := p.own()
		for _, d := range dirs {
			if path := r.libraryIn(d); path != "" {
				list = append(list, Library{Runtime: r.Name, Path: path, Source: source, Needed: p.all([]string{d})})
				break
			}
		}
	}
	return list
}
