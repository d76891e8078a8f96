// Package onnxruntime binds ONNX Runtime's C API without cgo.
//
// The library's settings follow measurements on the full-size UNet: the
// allocator's arena is on, memory patterns are off (they are slower and leak a
// block of the size of all activations in the second run), and all graph
// optimisations are on.
package onnxruntime

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"github.com/ebitengine/purego"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/backend/wheels"
	"github.com/lipstream/lipstream/internal/fault"
)

// Name of the backend.
const Name = "onnxruntime"

const (
	hint     = "run: lipstream runtime install onnxruntime"
	cudaHint = "run: lipstream runtime install cuda"
)

// Backend is an opened ONNX Runtime.
type Backend struct {
	api     *api
	version string
	path    string
	cuda    bool
	// devices are NVIDIA's GPUs, if the library can use them.
	devices []backend.Device
	plugins []pluginDevice

	env       handle
	memInfo   handle // describes the memory of tensors that Go owns
	allocator handle // the library's default; must not be released
	copies    copies

	users native.Users
}

var _ backend.Backend = (*Backend)(nil)

// Open loads the library at path, checks its version and functions, and computes a tiny
// model with it on the CPU. The libraries that it needs for a GPU, such as CUDA's, are
// loaded before by their paths, in the given order: the system's loader need not find
// them. One that cannot be loaded only keeps the GPUs from being used; backend.Check
// returns why.
func Open(ctx context.Context, path string, needed ...string) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Cancelled.Wrap("load library "+path, err)
	}
	// Microsoft's builds collect telemetry, into files in the user's folders, as
	// soon as they are loaded.
	native.Setenv("ORT_DISABLE_TELEMETRY", "1")
	if err := native.CheckCRT(path); err != nil {
		return nil, err
	}
	lib, err := native.Open(path, hint)
	if err != nil {
		return nil, err
	}
	a, version, err := loadAPI(lib)
	if err != nil {
		return nil, err
	}
	native.ReturnLargeBlocks()
	var unloaded error
	for _, n := range needed {
		if _, err := native.Open(n, cudaHint); err != nil && unloaded == nil {
			unloaded = err
		}
	}
	b := &Backend{api: a, version: version, path: lib.Path()}
	if err := b.init(unloaded); err != nil {
		_ = b.Close() // releases what init made before it failed
		return nil, backend.Fault(fault.Missing, "start ONNX Runtime", lib.Path(), err, hint)
	}
	if err := backend.Smoke(ctx, b); err != nil {
		_ = b.Close()
		return nil, backend.Fault(fault.Missing, "try ONNX Runtime", lib.Path(), err, hint)
	}
	return b, nil
}

// init creates the library's objects. unloaded is why a library for the GPUs could not
// be loaded.
func (b *Backend) init(unloaded error) error {
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
	if b.cuda = slices.Contains(providers, "CUDAExecutionProvider"); b.cuda {
		driver, err := cuda.Read()
		b.devices = nvidiaDevices(driver, err, unloaded)
	}
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

// Devices lists NVIDIA's GPUs if the library can use them, the CPU, and the devices of
// plugins.
func (b *Backend) Devices() ([]backend.Device, error) {
	list := append(slices.Clone(b.devices), backend.Device{ID: "cpu", Name: native.CPUName(), FusesAttention: true})
	for _, d := range b.plugins {
		list = append(list, d.Device)
	}
	return list, nil
}

// nvidiaDevices lists the GPUs of NVIDIA's driver, in the order of NVML. failed is why the
// driver could not list all of them, which makes one more device with this error. unloaded
// is why none of them can be used. Both may be nil.
func nvidiaDevices(driver cuda.Driver, failed, unloaded error) []backend.Device {
	id := func(n int) string { return "cuda:" + strconv.Itoa(n) }
	var list []backend.Device
	for _, d := range driver.Devices {
		dev := backend.Device{ID: id(d.Index), Name: d.Name, UUID: d.UUID, Resident: true, FusesAttention: true, Err: unloaded}
		if wheels.TooOld(d.Capability) {
			dev.Err = fault.Missing.New("use device "+dev.ID, "its compute capability "+d.Capability+" is below "+wheels.OldestCard, "use device cpu")
		}
		list = append(list, dev)
	}
	if failed != nil && !errors.Is(failed, cuda.ErrNoDriver) {
		next := id(len(list))
		list = append(list, backend.Device{ID: next, Name: "NVIDIA GPU", Err: fault.Missing.Wrap("use device "+next, failed,
			"check the driver with nvidia-smi, restart the machine after an update of the driver, or use device cpu")})
	}
	return list
}

// Close releases the environment. The library itself stays loaded.
func (b *Backend) Close() error {
	if err := b.copies.clear(); err != nil {
		return err
	}
	return b.users.Close("ONNX Runtime", func() {
		if b.memInfo != 0 {
			b.api.releaseMemoryInfo(b.memInfo)
		}
		if b.env != 0 {
			b.api.releaseEnv(b.env)
		}
	})
}

// logCallback passes the library's warnings and errors to the program's log; otherwise
// they would be printed. There is one for the process, because callbacks can never be
// freed.
var logCallback = sync.OnceValue(func() uintptr {
	// void log(void* param, OrtLoggingLevel, const char* category, const char* logid, const char* code_location, const char* message)
	return purego.NewCallback(func(_ uintptr, severity int32, _, _, where, message *byte) uintptr {
		level := slog.LevelWarn
		if severity > logWarning {
			level = slog.LevelError
		}
		slog.Log(context.Background(), level, "ONNX Runtime: "+native.GoString(message), "at", native.GoString(where))
		return 0
	})
})
