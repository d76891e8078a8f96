package wheels

// The runtimes that are plugins of ONNX Runtime.
const (
	WebGPU      = "webgpu"
	TensorRTRTX = "tensorrt-rtx"
)

// onnxForPlugins is the CPU's ONNX Runtime, with which plugins are installed: they need
// 1.24.4 or later.
var onnxForPlugins = func() Package {
	p := onnxCPU
	p.needed, p.fixed = []library{{stem: "onnxruntime"}}, true
	return p
}()

var webGPU = Runtime{
	Name: WebGPU, Backend: "onnxruntime", library: "onnxruntime_providers_webgpu", plugin: true,
	About: "WebGPU for ONNX Runtime: GPUs of any maker, through Vulkan, Direct3D or Metal",
	Packages: []Package{{
		Project: "onnxruntime-ep-webgpu", Version: "0.4.0", places: []place{{"onnxruntime_ep_webgpu", ""}},
		keep: append(shared("onnxruntime_ep_webgpu", "onnxruntime_providers_webgpu", "dxcompiler", "dxil"),
			"onnxruntime_ep_webgpu-*.dist-info/licenses/*"),
		files: map[string]wheel{
			"linux/amd64":   {platform: "manylinux_2_28_x86_64", sha256: "5d8c961eda91a88961cad1fb7621f389f006b18497d6ea9ecf96f729f066cbfb", size: 6892120},
			"linux/arm64":   {platform: "manylinux_2_28_aarch64", sha256: "17f660db53b1a509c63e721ac6784a2daa1c4e91a968523ee9986505ee5b0a55", size: 6096222},
			"windows/amd64": {platform: "win_amd64", sha256: "7db646669d1a2390551da675115ea125e68cb3d4d2c3a2d6e463372bf8d6ea87", size: 13149847},
			"windows/arm64": {platform: "win_arm64", sha256: "a9586f6744370776059edd794c11bca2f563258a5bd2707864aefff31d3af39f", size: 14194630},
			"darwin/arm64":  {platform: "macosx_14_0_universal2", sha256: "8d0a91d44b43d931c3068b9134aed9770f27803e353c2b58c93e1700bb68bcca", size: 5200679},
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
			"onnxruntime_ep_nv_tensorrt_rtx/*.dll",
			"onnxruntime_ep_nv_tensorrt_rtx/*.txt",
		},
		needed: []library{{"cudart", "13"}, {"tensorrt_rtx", "1"}, {"tensorrt_onnxparser_rtx", "1"}},
		files: map[string]wheel{
			"linux/amd64":   {platform: "manylinux_2_28_x86_64", sha256: "32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298", size: 146476965},
			"windows/amd64": {platform: "win_amd64", sha256: "609b19f7236c8522ef005a9f763003a78f492e5d871afad39fe1b247760eb3c7", size: 110875664},
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
