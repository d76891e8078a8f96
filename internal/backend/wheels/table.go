// Package wheels installs and finds the inference libraries. It takes them from Python
// wheels, in which their makers publish them. They run without Python.
package wheels

import (
	"runtime"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// Runtime is an inference library that can be installed.
type Runtime struct {
	Name    string // for the user
	Backend string // the backend that loads it: "openvino" or "onnxruntime"
	Project string // on PyPI
	Version string
	About   string // one line

	module  string   // the Python package's folder
	libs    string   // the folder of its libraries, in the package
	library string   // the stem of the library that is loaded
	marker  string   // a second library that identifies this runtime; may be ""
	keep    []string // the files to unpack: patterns of path.Match for names in the wheel
	files   map[string]wheel
}

// wheel is one exact file. It is always the build for CPython 3.11, so that everybody
// runs the same bytes; the libraries are the same in all builds.
type wheel struct {
	platform string // pip's --platform
	sha256   string
	size     int64 // in bytes; 0 if unknown
}

// pythonVersion and abi select the wheel, whatever Python the machine has.
const (
	pythonVersion = "3.11"
	abi           = "cp311"
)

var table = []Runtime{
	{
		Name: "openvino", Backend: "openvino", Project: "openvino", Version: "2026.4.1",
		About:  "Intel's OpenVINO: the fastest on CPUs of any maker; Intel GPUs",
		module: "openvino", libs: "libs", library: "openvino_c",
		keep: []string{
			"openvino/libs/libopenvino.so.*",
			"openvino/libs/libopenvino_c.so.*",
			"openvino/libs/libopenvino_onnx_frontend.so.*",
			"openvino/libs/libopenvino_ir_frontend.so.*",
			"openvino/libs/libopenvino_*_cpu_plugin.so",
			"openvino/libs/libopenvino_intel_gpu_plugin.so",
			"openvino/libs/cache.json", // the GPU plugin's kernels
			"openvino/libs/libtbb.so.*",
			"openvino/libs/libtbbbind*.so.*",
			"openvino/libs/libtbbmalloc.so.*",
			"openvino/libs/libhwloc.so.*",
			"openvino-*.dist-info/licenses/*",
			"openvino-*.dist-info/licenses/licensing/*",
		},
		files: map[string]wheel{
			"linux/amd64": {"manylinux_2_28_x86_64", "2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf", 59130756},
			"linux/arm64": {"manylinux_2_35_aarch64", "bea1eb3733c34ef331adc945da0ccda5937865031139073663be84c517ffda22", 0},
		},
	},
	{
		Name: "onnxruntime", Backend: "onnxruntime", Project: "onnxruntime", Version: "1.32.0",
		About:  "Microsoft's ONNX Runtime, for the CPU",
		module: "onnxruntime", libs: "capi", library: "onnxruntime",
		keep: onnxFiles,
		files: map[string]wheel{
			"linux/amd64": {"manylinux_2_28_x86_64", "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d", 27773237},
			"linux/arm64": {"manylinux_2_28_aarch64", "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c", 0},
		},
	},
	{
		Name: "onnxruntime-cuda", Backend: "onnxruntime", Project: "onnxruntime-gpu", Version: "1.31.1",
		About:  "Microsoft's ONNX Runtime, for NVIDIA GPUs with CUDA 13 and cuDNN 9",
		module: "onnxruntime", libs: "capi", library: "onnxruntime", marker: "onnxruntime_providers_cuda",
		keep: append([]string{"onnxruntime/capi/libonnxruntime_providers_cuda.so"}, onnxFiles...),
		files: map[string]wheel{
			"linux/amd64": {"manylinux_2_28_x86_64", "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6", 0},
		},
	},
}

var onnxFiles = []string{
	"onnxruntime/capi/libonnxruntime.so.*",
	"onnxruntime/capi/libonnxruntime_providers_shared.so",
	"onnxruntime/LICENSE",
	"onnxruntime/ThirdPartyNotices.txt",
	"onnxruntime*.dist-info/licenses/*",
}

// Runtimes lists the runtimes that can be installed.
func Runtimes() []Runtime { return slices.Clone(table) }

// Named returns the named runtime.
func Named(name string) (Runtime, error) {
	var names []string
	for _, r := range table {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Runtime{}, fault.Usage.New("use the runtime "+name, "there is no runtime of this name",
		"choose one of "+strings.Join(names, ", "))
}

// platform returns the key of Runtime.files for this machine.
func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// wheel returns the file for this machine.
func (r Runtime) wheel() (wheel, error) {
	w, ok := r.files[platform()]
	if !ok {
		return wheel{}, fault.Missing.New("install the runtime "+r.Name, "there is no build for "+platform(),
			"install the Python package "+r.Project+" "+r.Version+", or set LIPSTREAM_RUNTIME_DIR to a folder with the library")
	}
	return w, nil
}
