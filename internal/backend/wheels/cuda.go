package wheels

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
)

// The runtimes for NVIDIA GPUs. CUDA is not a runtime. It stands for the one
// that ChooseCUDA returns.
const (
	CUDA   = "cuda"
	CUDA13 = "cuda13"
	CUDA12 = "cuda12"
)

// The packages below are those of the toolkits 13.0.2 and 12.8.1, the oldest that ONNX
// Runtime's builds can use, because a driver runs programs of its own toolkit and of
// older ones. cuFFT is for signals only: ONNX Runtime for CUDA 13 loads it when it needs
// it, which is never here, and that for CUDA 12 cannot be loaded without it.

var onnxCUDAFiles = append(shared("onnxruntime/capi", "onnxruntime_providers_cuda"), onnxFiles...)

// cuda13 and cuda12 are NVIDIA's packages, in the order in which their libraries are
// loaded. PyTorch has them too: on Linux as the same packages, on Windows in its own
// folder.
var (
	cuda13 = []Package{
		nvidia("nvidia-cuda-runtime", "13.0.96", "nvidia/cu13/lib", []library{{"cudart", "13"}},
			wheel{platform: "manylinux_2_17_x86_64", sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", size: 2243632},
			wheel{platform: "win_amd64", sha256: "f79298c8a098cec150a597c8eba58ecdab96e3bdc4b9bc4f9983635031740492", size: 2927037}),
		nvidia("nvidia-cuda-nvrtc", "13.0.88", "nvidia/cu13/lib", []library{{"nvrtc-builtins", "13"}, {"nvrtc", "13"}},
			wheel{platform: "manylinux_2_12_x86_64", sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575", size: 90215200},
			wheel{platform: "win_amd64", sha256: "6bcd4e7f8e205cbe644f5a98f2f799bef9556fefc89dd786e79a16312ce49872", size: 76807835}),
		nvidia("nvidia-cublas", "13.1.0.3", "nvidia/cu13/lib", []library{{"cublasLt", "13"}, {"cublas", "13"}},
			wheel{platform: "manylinux_2_27_x86_64", sha256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171", size: 423133236},
			wheel{platform: "win_amd64", sha256: "2a3b94a37def342471c59fad7856caee4926809a72dd5270155d6a31b5b277be", size: 404355960}),
		nvidia("nvidia-curand", "10.4.0.35", "nvidia/cu13/lib", []library{{"curand", "10"}},
			wheel{platform: "manylinux_2_27_x86_64", sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc", size: 59544258},
			wheel{platform: "win_amd64", sha256: "65b1710aa6961d326b411e314b374290904c5ddf41dc3f766ebc3f1d7d4ca69f", size: 55242481}),
		nvidia("nvidia-cudnn-cu13", "9.26.0.51", "nvidia/cudnn/lib", []library{{"cudnn", "9"}},
			wheel{platform: "manylinux_2_27_x86_64", sha256: "9c976d539786698c71d6bcdbe2053b7485fae062ff7e1215d2f2ff67b1a2149a", size: 519150073},
			wheel{platform: "win_amd64", sha256: "8e37a83d7dd7c2663afcae38b1c95c5e9e7c9754f313800da95ca81439fa37f9", size: 419603885}),
	}
	cuda12 = []Package{
		nvidia("nvidia-cuda-runtime-cu12", "12.8.90", "nvidia/cuda_runtime/lib", []library{{"cudart", "12"}},
			wheel{platform: "manylinux_2_17_x86_64", sha256: "adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90", size: 954765},
			wheel{platform: "win_amd64", sha256: "c0c6027f01505bfed6c3b21ec546f69c687689aad5f1a377554bc6ca4aa993a8", size: 944318}),
		nvidia("nvidia-cuda-nvrtc-cu12", "12.8.93", "nvidia/cuda_nvrtc/lib", []library{{"nvrtc-builtins", "12"}, {"nvrtc", "12"}},
			wheel{platform: "manylinux_2_12_x86_64", sha256: "a7756528852ef889772a84c6cd89d41dfa74667e24cca16bb31f8f061e3e9994", size: 88040029},
			wheel{platform: "win_amd64", sha256: "7a4b6b2904850fe78e0bd179c4b655c404d4bb799ef03ddc60804247099ae909", size: 73586838}),
		nvidia("nvidia-cublas-cu12", "12.8.4.1", "nvidia/cublas/lib", []library{{"cublasLt", "12"}, {"cublas", "12"}},
			wheel{platform: "manylinux_2_27_x86_64", sha256: "8ac4e771d5a348c551b2a426eda6193c19aa630236b418086020df5ba9667142", size: 594346921},
			wheel{platform: "win_amd64", sha256: "47e9b82132fa8d2b4944e708049229601448aaad7e6f296f630f2d1a32de35af", size: 567544208}),
		nvidia("nvidia-cufft-cu12", "11.3.3.83", "nvidia/cufft/lib", []library{{"cufft", "11"}},
			wheel{platform: "manylinux_2_17_x86_64", sha256: "4d2dd21ec0b88cf61b62e6b43564355e5222e4a3fb394cac0db101f2dd0d4f74", size: 193118695},
			wheel{platform: "win_amd64", sha256: "7a64a98ef2a7c47f905aaf8931b69a3a43f27c55530c698bb2ed7c75c0b42cb7", size: 192216559}),
		nvidia("nvidia-curand-cu12", "10.3.9.90", "nvidia/curand/lib", []library{{"curand", "10"}},
			wheel{platform: "manylinux_2_27_x86_64", sha256: "b32331d4f4df5d6eefa0554c565b626c7216f87a06a4f56fab27c3b68a830ec9", size: 63619976},
			wheel{platform: "win_amd64", sha256: "f149a8ca457277da854f89cf282d6ef43176861926c7ac85b2a0fbd237c587ec", size: 62765309}),
		nvidia("nvidia-cudnn-cu12", "9.26.0.51", "nvidia/cudnn/lib", []library{{"cudnn", "9"}},
			wheel{platform: "manylinux_2_27_x86_64", sha256: "ce8603d4ea88d134be5a92c5e0833d513bea1ce0ee4bbc5d649fcb8718d51cbf", size: 770488318},
			wheel{platform: "win_amd64", sha256: "010abb90f513fc6e2b6e9278d56f594b87922fff80737434ab415da609db8311", size: 746465599}),
	}
)

// nvidia returns a package of NVIDIA's for amd64. folder is where its libraries are on
// Linux. All are kept except the builds for old C libraries (alt) and the one that
// replaces a BLAS.
func nvidia(project, version, folder string, needed []library, linux, windows wheel) Package {
	dlls := strings.TrimSuffix(folder, "lib") + "bin"
	if strings.HasPrefix(folder, "nvidia/cu13/") {
		dlls += "/x86_64"
	}
	var keep []string
	for _, l := range needed {
		keep = append(keep, folder+"/lib"+l.stem+".so.*", dlls+"/"+l.stem+"64_*[0-9].dll")
	}
	info := strings.ReplaceAll(project, "-", "_") + "-*.dist-info/"
	p := Package{
		Project: project, Version: version, needed: needed,
		files: map[string]wheel{"linux/amd64": linux, "windows/amd64": windows},
	}
	if needed[0].stem == "cudnn" {
		keep = append(keep, folder+"/libcudnn_*.so.*", dlls+"/cudnn_*64_*[0-9].dll")
		p.parts = []library{{"cudnn_*", needed[0].version}}
	}
	p.keep = append(keep, info+"License.txt", info+"licenses/*")
	for _, f := range []string{folder, dlls} {
		module, inside, _ := strings.Cut(f, "/")
		p.places = append(p.places, place{module, inside})
	}
	p.places = append(p.places, place{"torch", "lib"})
	return p
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
			"use the CPU: run lipstream runtime install "+Default())
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
	imports, _ := native.Imports(path) // without them it is of no use
	for _, name := range imports {
		if (library{"cublas", version}).matches(runtime.GOOS, name) {
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
		"/usr/lib/wsl/lib/libcuda.so.1", // Windows Subsystem for Linux
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
