// Package wheels installs and finds the inference libraries. It takes them from Python
// wheels, in which their makers publish them. They run without Python.
package wheels

import (
	"cmp"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/archive"
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
	// parts are libraries that others load by their names. Windows does not search their
	// folder for them, so they are loaded first.
	parts []library
	files map[string]wheel

	fixed bool // not used from Python, where its version can be another
	crt   bool // Microsoft's C++ runtime; see Library.CRT
}

// place is a folder of a Python module.
type place struct{ module, folder string }

// library names a shared library: cudart 13 is libcudart.so.13 or cudart64_13.dll. A stem
// can be a pattern.
type library struct{ stem, version string }

// wheel is one exact file. Of packages that are built for a Python version it is always
// the build for CPython 3.11, so that everybody runs the same bytes; the libraries are
// the same in all builds.
type wheel struct {
	platform string // pip's --platform
	sha256   string
	size     int64  // in bytes
	version  string // if it differs from the package's
}

// pythonVersion and abi select the wheel, whatever Python the machine has.
const (
	pythonVersion = "3.11"
	abi           = "cp311"
)

var runtimes = []Runtime{
	{
		Name: "openvino", Backend: "openvino", library: "openvino_c",
		About: "Intel's OpenVINO: the fastest on CPUs of any maker; Intel GPUs",
		Packages: []Package{{
			Project: "openvino", Version: "2026.4.1", places: []place{{"openvino", "libs"}},
			// Without the NPU's compiler, which takes 100 MB.
			keep: append(shared("openvino/libs",
				"openvino", "openvino_c", "openvino_onnx_frontend", "openvino_ir_frontend",
				"openvino_*_cpu_plugin", "openvino_intel_gpu_plugin",
				"tbb", "tbb12", "tbbbind*", "tbbmalloc", "hwloc"),
				"openvino/libs/cache.json", // the GPU plugin's kernels
				"openvino-*.dist-info/licenses/*",
				"openvino-*.dist-info/licenses/licensing/*"),
			files: map[string]wheel{
				"linux/amd64":   {platform: "manylinux_2_28_x86_64", sha256: "2d22b1da03f7caf74df30e9f6417d0ab2f637e4a38e08e1dcd294d2c37407aaf", size: 59130756},
				"linux/arm64":   {platform: "manylinux_2_35_aarch64", sha256: "bea1eb3733c34ef331adc945da0ccda5937865031139073663be84c517ffda22", size: 30348540},
				"windows/amd64": {platform: "win_amd64", sha256: "bfddae6d6d3ad240157b946f180c33d0ddfaaae7487995d929a4e6b4bc12b283", size: 84956545},
				"darwin/arm64":  {platform: "macosx_11_0_arm64", sha256: "d3740853691ae4a9003bc3417a4625d848e2cc3251af4b815c59199b38be252a", size: 33302114},
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
		"linux/amd64":   {platform: "manylinux_2_28_x86_64", sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d", size: 27773237},
		"linux/arm64":   {platform: "manylinux_2_28_aarch64", sha256: "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c", size: 23195070},
		"windows/amd64": {platform: "win_amd64", sha256: "d7e0c45cc5f456ad7805e6dd256a7662736cda9c2fd17becae194eb3c2f6df72", size: 16695880},
		"windows/arm64": {platform: "win_arm64", sha256: "23361cdf98afac352d10aa7d9e0a10ceaeb02d38430fb693c6eff370196db62d", size: 16027290},
		"darwin/arm64":  {platform: "macosx_14_0_arm64", sha256: "366b9e53d07812cc5c92822cecf7563b76a8a0f32ba3bb8dd232a206ac3bcb6c", size: 22506162},
		// The last version for Macs with Intel processors.
		"darwin/amd64": {version: "1.23.2", platform: "macosx_13_0_x86_64", sha256: "87d8b6eaf0fbeb6835a60a4265fde7a3b60157cf1b2764773ac47237b4d48612", size: 19153857},
	},
}

var onnxCUDA13 = Package{
	Project: "onnxruntime-gpu", Version: "1.31.1", places: onnxPlaces, keep: onnxCUDAFiles,
	files: map[string]wheel{
		"linux/amd64":   {platform: "manylinux_2_28_x86_64", sha256: "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6", size: 255560985},
		"windows/amd64": {platform: "win_amd64", sha256: "fd98341ba71c093153f0dcfc53eb69d57f706866fb45e94e5b0cde5d97a50dbf", size: 168096711},
	},
}

// onnxCUDA12 is the last version of ONNX Runtime that was built with CUDA 12.
var onnxCUDA12 = Package{
	Project: "onnxruntime-gpu", Version: "1.26.0", places: onnxPlaces, keep: onnxCUDAFiles,
	files: map[string]wheel{
		"linux/amd64":   {platform: "manylinux_2_28_x86_64", sha256: "4fa231294c2643911d2a7d16469c4808b0bdcdc4b5f4063d3a53744ce25b683a", size: 276956564},
		"windows/amd64": {platform: "win_amd64", sha256: "cc5329aad02d9745cc3ae9cdb185bfa1aad242a7bf89b8c471280002ec40f98a", size: 226539455},
	},
}

var (
	onnxPlaces = []place{{"onnxruntime", "capi"}}
	onnxFiles  = append(shared("onnxruntime/capi", "onnxruntime", "onnxruntime_providers_shared"),
		"onnxruntime/LICENSE",
		"onnxruntime/ThirdPartyNotices.txt",
		"onnxruntime*.dist-info/licenses/*")
)

// shared returns patterns of shared libraries in a folder of a wheel, by their names on
// all systems.
func shared(folder string, stems ...string) []string {
	var list []string
	for _, s := range stems {
		lib := folder + "/lib" + s
		list = append(list, lib+".so", lib+".so.*", lib+".dylib", lib+".*.dylib", folder+"/"+s+".dll")
	}
	return list
}

// microsoftCRT is Microsoft's C++ runtime, which the libraries for Windows need. Windows
// does not have it, or has an old one. The libraries are those that Microsoft allows
// everybody with Visual Studio to redistribute, unmodified.
var microsoftCRT = Package{
	Project: "msvc-runtime", Version: "14.44.35112", crt: true,
	keep: []string{
		"msvc_runtime-*.data/data/Scripts/vcruntime140.dll",
		"msvc_runtime-*.data/data/Scripts/vcruntime140_1.dll",
		"msvc_runtime-*.data/data/Scripts/msvcp140.dll",
		"msvc_runtime-*.data/data/Scripts/msvcp140_1.dll",
		"msvc_runtime-*.data/data/Scripts/msvcp140_atomic_wait.dll",
		"msvc_runtime-*.dist-info/licenses/*",
	},
	needed: []library{{"vcruntime140", ""}, {"vcruntime140_1", ""}, {"msvcp140", ""}, {"msvcp140_1", ""}, {"msvcp140_atomic_wait", ""}},
	files: map[string]wheel{
		"windows/amd64": {platform: "win_amd64", sha256: "aba7fbe71897d25ed53fbb7f391e9f50289378a8a9ae218ba18530c663448391", size: 1921911},
		"windows/arm64": {platform: "win_arm64", sha256: "3a9c137951944fdc121377947bb4787dcd1007b505d7cf26f62d308d2b8df280", size: 3208236},
	},
}

// thisPlatform is the key of Package.files for this machine, and table the runtimes as they
// are there.
var (
	thisPlatform = archive.Platform
	table        = tableFor(thisPlatform)
)

// tableFor returns the runtimes as they are on a platform, such as "windows/amd64".
func tableFor(platform string) []Runtime {
	windows := strings.HasPrefix(platform, "windows/")
	list := slices.Clone(runtimes)
	for i := range list {
		r := &list[i]
		r.Packages = slices.Clone(r.Packages)
		for j := range r.Packages {
			p := &r.Packages[j]
			p.Version = cmp.Or(p.files[platform].version, p.Version)
			if windows {
				p.needed = slices.Concat(p.parts, p.needed)
			}
		}
		if windows {
			r.Packages = append(r.Packages, microsoftCRT)
		}
	}
	return list
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

// wheel returns the file for this machine; see Available.
func (p Package) wheel() wheel { return p.files[thisPlatform] }

// Available reports whether there is a build of the runtime for this machine.
func (r Runtime) Available() bool {
	return !slices.ContainsFunc(r.Packages, func(p Package) bool { return p.wheel().size == 0 })
}

// Default returns the name of the runtime to install if the user has not chosen one: the
// first with a build for this machine.
func Default() string {
	if i := slices.IndexFunc(table, Runtime.Available); i >= 0 {
		return table[i].Name
	}
	return table[0].Name
}

// installHint says how to install a runtime, or what to do if it has no build for this
// machine.
func installHint(name string) string {
	if r, err := Named(name); err != nil || r.Available() {
		return "run: lipstream runtime install " + name
	}
	if r, err := Named(Default()); err == nil && r.Available() {
		return "use another runtime: lipstream runtime install " + r.Name
	}
	return "set " + DirVariable + " to a folder with the library"
}

// archive returns the wheel for this machine; see Available.
func (p Package) archive() archive.Archive {
	w := p.wheel()
	return archive.Archive{
		Project: p.Project, Version: p.Version, SHA256: w.sha256, Size: w.size, Keep: p.keep,
		Hint: "download it with: pip download --no-deps --only-binary=:all: --python-version " + pythonVersion +
			" --platform " + w.platform + " " + p.Project + "==" + p.Version,
	}
}
