// Package onnxruntime binds ONNX Runtime's C API without cgo.
//
// The library's settings follow measurements on the full-size UNet: the
// allocator's arena is on, memory patterns are off (they are slower and leak a
// block of the size of all activations in the second run), and all graph
// optimisations are on.
package onnxruntime

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ebitengine/purego"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
)

// Name of the backend.
const Name = "onnxruntime"

const hint = "run: lipstream runtime install onnxruntime"

// Backend is an opened ONNX Runtime.
type Backend struct {
	api     *api
	version string
	path    string
	cuda    bool

	env       handle
	memInfo   handle     // describes the memory of tensors that Go owns
	allocator handle     // the library's default; must not be released
	arena     sync.Mutex // held while a session is created with its own arena

	users native.Users
}

var _ backend.Backend = (*Backend)(nil)

// Open loads the library at path, checks its version and functions, and
// computes a tiny model with it.
func Open(ctx context.Context, path string) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Cancelled.Wrap("load library "+path, err)
	}
	// Microsoft's builds collect telemetry, into files in the user's folders, as
	// soon as they are loaded.
	native.Setenv("ORT_DISABLE_TELEMETRY", "1")
	lib, err := native.Open(path, hint)
	if err != nil {
		return nil, err
	}
	a, version, err := loadAPI(lib)
	if err != nil {
		return nil, err
	}
	native.ReturnLargeBlocks()
	b := &Backend{api: a, version: version, path: lib.Path()}
	if err := b.init(); err != nil {
		_ = b.Close() // releases what init made before it failed
		return nil, backend.Fault(fault.Missing, "start ONNX Runtime", lib.Path(), err, hint)
	}
	if err := backend.Smoke(ctx, b); err != nil {
		_ = b.Close()
		return nil, backend.Fault(fault.Missing, "try ONNX Runtime", lib.Path(), err, hint)
	}
	return b, nil
}

func (b *Backend) init() error {
	a := b.api
	if err := a.check(a.createEnv(logCallback(), 0, logWarning, "lipstream\x00", &b.env)); err != nil {
		return err
	}
	if err := a.check(a.createCPUMemoryInfo(arenaAllocator, memTypeDefault, &b.memInfo)); err != nil {
		return err
	}
	if err := a.check(a.defaultAllocator(&b.allocator)); err != nil {
		return err
	}
	providers, err := b.providers()
	if err != nil {
		return err
	}
	b.cuda = slices.Contains(providers, "CUDAExecutionProvider")
	return nil
}

// Name returns "onnxruntime".
func (b *Backend) Name() string { return Name }

// Version returns the library's version, such as "1.32.0".
func (b *Backend) Version() string { return b.version }

// Path returns the path of the library.
func (b *Backend) Path() string { return b.path }

// providers lists the execution providers built into the library.
func (b *Backend) providers() ([]string, error) {
	var list **byte
	var n int32
	if err := b.api.check(b.api.availableProviders(&list, &n)); err != nil {
		return nil, err
	}
	var names []string
	for _, p := range cPointers(list, int(n)) {
		names = append(names, native.GoString(p))
	}
	return names, b.api.check(b.api.releaseProviders(list, n))
}

// Devices lists the GPUs that the CUDA provider can use, then the CPU. A listed GPU
// has a driver, but it may not work.
func (b *Backend) Devices() ([]backend.Device, error) {
	var list []backend.Device
	if b.cuda {
		list = append(list, nvidiaDevices()...)
	}
	return append(list, backend.Device{ID: "cpu", Name: native.CPUName(), FusesAttention: true}), nil
}

// nvidiaDevices lists the GPUs of NVIDIA's kernel driver. CUDA numbers them by
// speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID, so in a machine with different GPUs a
// name may have the number of another.
func nvidiaDevices() []backend.Device {
	if runtime.GOOS == "windows" {
		return []backend.Device{{ID: "cuda:0", Name: "CUDA device 0"}}
	}
	files, _ := filepath.Glob("/proc/driver/nvidia/gpus/*/information") // the pattern is good
	slices.Sort(files)
	var list []backend.Device
	for i, f := range files {
		d := backend.Device{ID: "cuda:" + strconv.Itoa(i), Name: "CUDA device " + strconv.Itoa(i)}
		text, err := os.ReadFile(f)
		if err == nil {
			for line := range strings.Lines(string(text)) {
				if model, ok := strings.CutPrefix(line, "Model:"); ok {
					d.Name = strings.TrimSpace(model)
				}
			}
		}
		list = append(list, d)
	}
	return list
}

// Close releases the environment. The library itself stays loaded.
func (b *Backend) Close() error {
	return b.users.Close("ONNX Runtime", func() {
		if b.memInfo != 0 {
			b.api.releaseMemoryInfo(b.memInfo)
		}
		if b.env != 0 {
			b.api.releaseEnv(b.env)
		}
	})
}

// logCallback drops the library's log, which would be printed otherwise. There is
// one for the process, because callbacks can never be freed.
var logCallback = sync.OnceValue(func() uintptr {
	// void log(void* param, OrtLoggingLevel, const char* category, const char* logid, const char* code_location, const char* message)
	return purego.NewCallback(func(_ uintptr, _ int32, _, _, _, _ *byte) uintptr { return 0 })
})
