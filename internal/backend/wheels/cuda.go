package wheels

import (
	"debug/elf"
	"debug/pe"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
)

// The runtimes for NVIDIA GPUs. CUDA is no runtime: it stands for the one that
// ChooseCUDA returns.
const (
	CUDA   = "cuda"
	CUDA13 = "cuda13"
	CUDA12 = "cuda12"
)

// The packages below are those of the toolkits 13.0.2 and 12.8.1, the oldest that ONNX
// Runtime's builds can use, because a driver runs programs of its own toolkit and of
// older ones. cuFFT is for signals only: ONNX Runtime for CUDA 13 loads it when it needs
// it, which is never here, and that for CUDA 12 cannot be loaded without it.

var onnxCUDAFiles = append([]string{"onnxruntime/capi/libonnxruntime_providers_cuda.so"}, onnxFiles...)

// cuda13 and cuda12 are NVIDIA's packages, in the order in which their libraries are
// loaded. PyTorch has them too: on Linux as the same packages, on Windows in its own
// folder.
var (
	cuda13 = []Package{
		nvidia("nvidia-cuda-runtime", "13.0.96", "nvidia/cu13/lib", []library{{"cudart", "13"}},
			wheel{"manylinux_2_17_x86_64", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", 2243632}),
		nvidia("nvidia-cuda-nvrtc", "13.0.88", "nvidia/cu13/lib", []library{{"nvrtc-builtins", "13"}, {"nvrtc", "13"}},
			wheel{"manylinux_2_12_x86_64", "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575", 90215200}),
		nvidia("nvidia-cublas", "13.1.0.3", "nvidia/cu13/lib", []library{{"cublasLt", "13"}, {"cublas", "13"}},
			wheel{"manylinux_2_27_x86_64", "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171", 423133236}),
		nvidia("nvidia-curand", "10.4.0.35", "nvidia/cu13/lib", []library{{"curand", "10"}},
			wheel{"manylinux_2_27_x86_64", "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc", 59544258}),
		nvidia("nvidia-cudnn-cu13", "9.26.0.51", "nvidia/cudnn/lib", []library{{"cudnn", "9"}},
			wheel{"manylinux_2_27_x86_64", "9c976d539786698c71d6bcdbe2053b7485fae062ff7e1215d2f2ff67b1a2149a", 519150073}),
	}
	cuda12 = []Package{
		nvidia("nvidia-cuda-runtime-cu12", "12.8.90", "nvidia/cuda_runtime/lib", []library{{"cudart", "12"}},
			wheel{"manylinux_2_17_x86_64", "adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90", 954765}),
		nvidia("nvidia-cuda-nvrtc-cu12", "12.8.93", "nvidia/cuda_nvrtc/lib", []library{{"nvrtc-builtins", "12"}, {"nvrtc", "12"}},
			wheel{"manylinux_2_12_x86_64", "a7756528852ef889772a84c6cd89d41dfa74667e24cca16bb31f8f061e3e9994", 88040029}),
		nvidia("nvidia-cublas-cu12", "12.8.4.1", "nvidia/cublas/lib", []library{{"cublasLt", "12"}, {"cublas", "12"}},
			wheel{"manylinux_2_27_x86_64", "8ac4e771d5a348c551b2a426eda6193c19aa630236b418086020df5ba9667142", 594346921}),
		nvidia("nvidia-cufft-cu12", "11.3.3.83", "nvidia/cufft/lib", []library{{"cufft", "11"}},
			wheel{"manylinux_2_17_x86_64", "4d2dd21ec0b88cf61b62e6b43564355e5222e4a3fb394cac0db101f2dd0d4f74", 193118695}),
		nvidia("nvidia-curand-cu12", "10.3.9.90", "nvidia/curand/lib", []library{{"curand", "10"}},
			wheel{"manylinux_2_27_x86_64", "b32331d4f4df5d6eefa0554c565b626c7216f87a06a4f56fab27c3b68a830ec9", 63619976}),
		nvidia("nvidia-cudnn-cu12", "9.26.0.51", "nvidia/cudnn/lib", []library{{"cudnn", "9"}},
			wheel{"manylinux_2_27_x86_64", "ce8603d4ea88d134be5a92c5e0833d513bea1ce0ee4bbc5d649fcb8718d51cbf", 770488318}),
	}
)

// nvidia returns a package of NVIDIA's for Linux on amd64. Of its libraries all are
// kept but the builds for old C libraries (alt) and the one that replaces a BLAS.
func nvidia(project, version, folder string, needed []library, w wheel) Package {
	module, inside, _ := strings.Cut(folder, "/")
	var keep []string
	for _, l := range needed {
		keep = append(keep, folder+"/lib"+l.stem+".so.*")
	}
	if needed[0].stem == "cudnn" { // loads its parts from its folder
		keep = append(keep, folder+"/libcudnn_*.so.*")
	}
	return Package{
		Project: project, Version: version, needed: needed,
		places: []place{{module, inside}, {"torch", "lib"}},
		keep:   append(keep, strings.ReplaceAll(project, "-", "_")+"-*.dist-info/License.txt", strings.ReplaceAll(project, "-", "_")+"-*.dist-info/licenses/*"),
		files:  map[string]wheel{"linux/amd64": w},
	}
}

// OldestCard is the oldest compute capability for which ONNX Runtime's builds have
// machine code: Turing.
const OldestCard = "7.5"

// ChooseCUDA returns the runtime for a machine. version is the newest CUDA that the
// driver can run, such as 13000 for 13.0, and 0 without a driver; capability is the
// highest compute capability of the cards, such as "8.9", or "". The error, of kind
// Missing, says why neither runtime can work.
func ChooseCUDA(version int, capability string) (string, error) {
	const op = "choose the CUDA runtime"
	switch {
	case version == 0:
		return "", fault.Missing.New(op, "no NVIDIA driver was found",
			"install NVIDIA's driver; for another machine, name the runtime: lipstream runtime install "+CUDA13+", or "+CUDA12)
	case capability == "":
		return "", fault.Missing.New(op, "the driver finds no GPU", "check it with nvidia-smi; CUDA_VISIBLE_DEVICES may hide it")
	case TooOld(capability):
		return "", fault.Missing.New(op, "the card has compute capability "+capability+", and ONNX Runtime needs "+OldestCard+" (GeForce GTX 16, RTX 20 or newer)",
			"use the CPU: run lipstream runtime install openvino")
	case version >= 13000:
		return CUDA13, nil
	case version >= 12000:
		return CUDA12, nil
	}
	return "", fault.Missing.New(op, fmt.Sprintf("the driver runs CUDA %d.%d, and 12.0 is needed", version/1000, version%1000/10),
		"install NVIDIA's driver 525 or newer; 580 or newer is best")
}

// TooOld reports whether ONNX Runtime's builds have no machine code for a compute
// capability, such as "6.1". An unknown one is not too old.
func TooOld(capability string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(capability, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < 7 || major == 7 && minor < 5
}

// cudaProvider returns the path of ONNX Runtime's CUDA provider in dir if it was built
// with the given version of CUDA, else "". The library itself says which version it
// needs.
func cudaProvider(dir, version string) string {
	path := anyLibrary(dir, library{stem: "onnxruntime_providers_cuda"})
	if path == "" {
		return ""
	}
	var imports []string
	if f, err := elf.Open(path); err == nil {
		imports, _ = f.ImportedLibraries() // without them it is of no use
		_ = f.Close()
	} else if f, err := pe.Open(path); err == nil {
		imports, _ = f.ImportedLibraries()
		_ = f.Close()
	}
	for _, name := range imports {
		if (library{"cublas", version}).matches(name) {
			return path
		}
	}
	return ""
}

// haveNVIDIA reports whether a driver of NVIDIA's is installed.
func haveNVIDIA() bool {
	paths := []string{
		"/proc/driver/nvidia/version",
		"/dev/nvidiactl",                // a container without /proc/driver
		"/usr/lib/wsl/lib/libcuda.so.1", // Windows' Subsystem for Linux
	}
	if runtime.GOOS == "windows" {
		paths = []string{filepath.Join(os.Getenv("SystemRoot"), "System32", "nvcuda.dll")}
	}
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return true
		}
	}
	return false
}
