// Package openvino binds OpenVINO's C API without cgo.
//
// The precision of the arithmetic is always set: by default OpenVINO chooses bfloat16
// or float16 on machines that have it.
package openvino

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Name of the backend.
const Name = "openvino"

const hint = "run: lipstream runtime install openvino"

// Backend is an opened OpenVINO.
type Backend struct {
	api     *api
	version string
	path    string
	core    handle
	users   native.Users
	mapping sync.RWMutex // held for writing while no weights may be mapped or unmapped
}

var _ backend.Backend = (*Backend)(nil)

// Open loads the library at path (libopenvino_c, with OpenVINO's other libraries
// beside it), checks its version and functions, and computes a tiny model with it.
func Open(ctx context.Context, path string) (*Backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.Cancelled.Wrap("load library "+path, err)
	}
	// OpenVINO loads its other libraries and plugins itself, some of them only
	// when a model is read. A damaged one must be found before.
	if err := native.CheckDir(filepath.Dir(path), hint); err != nil {
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
	b := &Backend{api: a, version: version, path: lib.Path()}
	native.KeepSignalStack(func() { err = b.start() })
	if err != nil {
		return nil, backend.Fault(fault.Missing, "start OpenVINO", lib.Path(), err, hint)
	}
	if err := backend.Smoke(ctx, b); err != nil {
		_ = b.Close()
		return nil, backend.Fault(fault.Missing, "try OpenVINO", lib.Path(), err, hint)
	}
	return b, nil
}

// start creates the core and makes it load the CPU plugin, which happens at the first
// query of the device.
func (b *Backend) start() error {
	if err := b.api.check(b.api.coreCreate(&b.core)); err != nil {
		return err
	}
	if _, err := b.property("CPU", "FULL_DEVICE_NAME"); err != nil {
		b.api.coreFree(b.core)
		return err
	}
	return nil
}

// Name returns "openvino".
func (b *Backend) Name() string { return Name }

// Version returns the library's version, such as "2026.4.1".
func (b *Backend) Version() string { return b.version }

// Path returns the path of the library.
func (b *Backend) Path() string { return b.path }

// Close releases the core. The library itself stays loaded.
func (b *Backend) Close() error {
	return b.users.Close("OpenVINO", func() { b.api.coreFree(b.core) })
}

// Upload returns t itself: sessions take and return tensors in the memory of the process.
func (b *Backend) Upload(_ context.Context, _ string, t *tensor.Tensor) (backend.Value, error) {
	return backend.InHost(t), nil
}

// Devices lists the devices that OpenVINO has a plugin and a driver for, the CPU
// first.
func (b *Backend) Devices() ([]backend.Device, error) {
	if err := b.users.Enter(); err != nil {
		return nil, fault.Internal.Wrap("list the devices of OpenVINO", err)
	}
	defer b.users.Leave()
	names, err := b.deviceNames()
	if err != nil {
		return nil, fault.Internal.Wrap("list the devices of OpenVINO", err)
	}
	var list []backend.Device
	for _, n := range names {
		full, err := b.property(n, "FULL_DEVICE_NAME")
		if err != nil || full == "" {
			full = n
		}
		// Only measured on this kind of CPU.
		d := backend.Device{ID: deviceID(n), Name: full, FusesAttention: n == "CPU" && runtime.GOARCH == "amd64"}
		if n == "CPU" && runtime.GOOS == "linux" { // elsewhere each model copies its weights, see readGraph
			d.Loads = 2
		}
		if can, err := b.property(n, "OPTIMIZATION_CAPABILITIES"); err == nil && n == "CPU" && slices.Contains(strings.Fields(can), "BF16") {
			d.Half = backend.BF16
		}
		list = append(list, d)
	}
	return list, nil
}

// deviceNames lists the devices by their names in OpenVINO, the CPU first.
func (b *Backend) deviceNames() ([]string, error) {
	var list deviceList
	if err := b.api.check(b.api.availableDevices(b.core, &list)); err != nil {
		return nil, err
	}
	defer b.api.devicesFree(&list)
	var names []string
	if list.names != nil {
		for _, p := range unsafe.Slice(list.names, int(list.n)) {
			names = append(names, native.GoString(p))
		}
	}
	slices.SortStableFunc(names, func(x, y string) int {
		return strings.Compare(first(x), first(y))
	})
	return names, nil
}

// first is a sort key that puts the CPU before the rest.
func first(name string) string {
	if name == "CPU" {
		return ""
	}
	return name
}

// deviceID converts a name in OpenVINO to a device ID: CPU, GPU, GPU.1 to cpu, gpu:0,
// gpu:1.
func deviceID(name string) string {
	kind, number, found := strings.Cut(strings.ToLower(name), ".")
	switch {
	case kind == "cpu":
		return kind
	case !found:
		number = "0"
	}
	return kind + ":" + number
}

// device converts a device ID to the name in OpenVINO; "" is the CPU.
func (b *Backend) device(id string) (string, error) {
	if id == "" || id == "cpu" {
		return "CPU", nil
	}
	names, err := b.deviceNames()
	if err != nil {
		return "", err
	}
	var have []string
	for _, n := range names {
		if deviceID(n) == id {
			return n, nil
		}
		have = append(have, deviceID(n))
	}
	return "", fault.Field("device", id, "is not a device of OpenVINO on this machine", "choose one of "+strings.Join(have, ", "))
}

// property returns a property of a device.
func (b *Backend) property(device, key string) (string, error) {
	var p *byte
	if err := b.api.check(b.api.getProperty(b.core, device, key, &p)); err != nil {
		return "", err
	}
	defer b.api.free(p)
	return native.GoString(p), nil
}

// settings converts the options to OpenVINO's properties for a device.
func (b *Backend) settings(device string, o backend.Options) ([][2]string, error) {
	if o.Threads < 0 {
		return nil, fault.Field("threads", strconv.Itoa(o.Threads), "is negative")
	}
	precision := o.Precision
	if precision == backend.Auto {
		precision = backend.F32
		if strings.HasPrefix(device, "GPU") {
			precision = backend.F16
		}
	}
	// What each precision needs among the device's OPTIMIZATION_CAPABILITIES.
	needs, ok := map[backend.Precision]string{backend.F32: "FP32", backend.BF16: "BF16", backend.F16: "FP16"}[precision]
	if !ok {
		return nil, fault.Field("precision", string(precision), "is not known", "choose one of f32, bf16, f16")
	}
	can, err := b.property(device, "OPTIMIZATION_CAPABILITIES")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(strings.Fields(can), needs) {
		return nil, fault.Field("precision", string(precision), "is not supported by the device "+deviceID(device), "set `precision` to f32")
	}
	list := [][2]string{
		{"INFERENCE_PRECISION_HINT", string(precision)},
		// One request at a time, all threads for it.
		{"PERFORMANCE_HINT", "LATENCY"},
		{"NUM_STREAMS", "1"},
	}
	if o.Profile {
		list = append(list, [2]string{"PERF_COUNT", "YES"})
	}
	if device == "CPU" {
		// Several sessions run side by side. With pinning, their threads would
		// share the first cores and leave the others idle.
		list = append(list, [2]string{"ENABLE_CPU_PINNING", "NO"})
		if o.Threads > 0 {
			list = append(list, [2]string{"INFERENCE_NUM_THREADS", strconv.Itoa(o.Threads)})
		}
	}
	return list, nil
}
