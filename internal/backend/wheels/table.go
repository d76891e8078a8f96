// Package wheels installs and finds the inference libraries. It takes them from Python
// wheels, in which their makers publish them. They run without Python.
package wheels

import (
	"runtime"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// Runtime is an inference library that can be installed, with all that it needs.
type Runtime struct {
	Name    string // for the user
	Backend string // the backend that loads it: "openvino" or "onnxruntime"
	About   string // one line
	// Packages are what Install installs. The first has the library that is loaded,
	// the others have libraries that it needs.
	Packages []Package

	library string // the stem of the library that is loaded
	plugin  bool   // the library is a plugin of the backend; see Plugins
	cuda    string // the version of CUDA that it was built with; "" without
}

// Version returns the version of the library that is loaded.
func (r Runtime) Version() string { return r.Packages[0].Version }

// Package is a Python package with native libraries.
type Package struct {
	Project string // on PyPI
	Version string

	places []place   // where its libraries are in a Python environment
	keep   []string  // the files to unpack: patterns of path.Match for names in the wheel
	needed []library // what has to be loaded before the runtime's library, in this order
	files  map[string]wheel
}

// place is a folder of a Python module.
type place struct{ module, folder string }

// library names a shared library: cudart 13 is libcudart.so.13 or cudart64_13.dll.
type library struct{ stem, version string }

// wheel is one exact file. Of packages that are built for a Python version it is always
// the build for CPython 3.11, so that everybody runs the same bytes; the libraries are
// the same in all builds.
type wheel struct {
	platform string // pip's --platform
	sha256   string
	size     int64 // in bytes
}

// pythonVersion and abi select the wheel, whatever Python the machine has.
const (
	pythonVersion = "3.11"
	abi           = "cp311"
)

var table = []Runtime{
	{
		Name: "openvino", Backend: "openvino", library: "openvino_c",
		About: "Intel's OpenVINO: the fastest on CPUs of any maker; Intel GPUs",
		Packages: []Package{{
			Project: "openvino", Version: "2026.4.1", places: []place{{"openvino", "libs"}},
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
				"linux/arm64": {"manylinux_2_35_aarch64", "bea1eb3733c34ef331adc945da0ccda5937865031139073663be84c517ffda22", 30348540},
			},
		}},
	},
	{
		Name: "onnxruntime", Backend: "onnxruntime", library: "onnxruntime",
		About:    "Microsoft's ONNX Runtime, for the CPU",
		Packages: []Package{onnxCPU},
	},
	{
		Name: CUDA13, Backend: "onnxruntime", library: "onnxruntime", cuda: "13",
		About:    "ONNX Runtime for NVIDIA GPUs, with CUDA 13: drivers from 580",
		Packages: append([]Package{onnxCUDA13}, cuda13...),
	},
	{
		Name: CUDA12, Backend: "onnxruntime", library: "onnxruntime", cuda: "12",
		About:    "ONNX Runtime for NVIDIA GPUs, with CUDA 12: drivers from 525",
		Packages: append([]Package{onnxCUDA12}, cuda12...),
	},
	webGPU,
	tensorRTRTX,
}

var onnxCPU = Package{
	Project: "onnxruntime", Version: "1.32.0", places: onnxPlaces, keep: onnxFiles,
	files: map[string]wheel{
		"linux/amd64": {"manylinux_2_28_x86_64", "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d", 27773237},
		"linux/arm64": {"manylinux_2_28_aarch64", "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c", 23195070},
	},
}

var onnxCUDA13 = Package{
	Project: "onnxruntime-gpu", Version: "1.31.1", places: onnxPlaces, keep: onnxCUDAFiles,
	files: map[string]wheel{
		"linux/amd64": {"manylinux_2_28_x86_64", "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6", 255560985},
	},
}

// onnxCUDA12 is the last version of ONNX Runtime that was built with CUDA 12.
var onnxCUDA12 = Package{
	Project: "onnxruntime-gpu", Version: "1.26.0", places: onnxPlaces, keep: onnxCUDAFiles,
	files: map[string]wheel{
		"linux/amd64": {"manylinux_2_28_x86_64", "4fa231294c2643911d2a7d16469c4808b0bdcdc4b5f4063d3a53744ce25b683a", 276956564},
	},
}

var (
	onnxPlaces = []place{{"onnxruntime", "capi"}}
	onnxFiles  = []string{
		"onnxruntime/capi/libonnxruntime.so.*",
		"onnxruntime/capi/libonnxruntime_providers_shared.so",
		"onnxruntime/LICENSE",
		"onnxruntime/ThirdPartyNotices.txt",
		"onnxruntime*.dist-info/licenses/*",
	}
)

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

// platform returns the key of Package.files for this machine.
func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// wheel returns the file for this machine.
func (p Package) wheel() (wheel, error) {
	w, ok := p.files[platform()]
	if !ok {
		return wheel{}, fault.Missing.New("install "+p.Project+" "+p.Version, "there is no build for "+platform(),
			"install it as a Python package, or set LIPSTREAM_RUNTIME_DIR to a folder with the library")
	}
	return w, nil
}
