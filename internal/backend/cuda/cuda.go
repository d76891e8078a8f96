// Package cuda asks NVIDIA's driver which GPUs a process can use. It needs no CUDA
// toolkit: the library is part of the driver.
package cuda

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/lipstream/lipstream/internal/backend/native"
)

// Device is a GPU.
type Device struct {
	Index      int    // the number that CUDA gives it
	Name       string // the maker's name
	UUID       string // as NVIDIA's tools write it: "GPU-8d2c...", "" if unknown
	Capability string // compute capability, such as "8.9"
}

// Driver is what the driver reports.
type Driver struct {
	// CUDA is the newest version of CUDA that the driver can run, such as 13000 for
	// 13.0.
	CUDA    int
	Devices []Device
}

// ErrNoDriver is returned when no driver of NVIDIA's is installed.
var ErrNoDriver = errors.New("no NVIDIA driver was found")

// OrderVariable makes CUDA number the GPUs as NVML and nvidia-smi do, by their place on
// the bus. By default the fastest is the first.
const OrderVariable = "CUDA_DEVICE_ORDER"

// Values of the driver's API, from cuda.h.
const (
	success         = 0   // CUDA_SUCCESS
	noDevice        = 100 // CUDA_ERROR_NO_DEVICE
	capabilityMajor = 75  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
	capabilityMinor = 76  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
	nameLength      = 256
)

// driver holds the functions of the library.
type driver struct {
	// CUresult cuInit(unsigned int flags);
	init func(flags uint32) int32
	// CUresult cuDriverGetVersion(int *version);
	version func(version *int32) int32
	// CUresult cuDeviceGetCount(int *count);
	count func(count *int32) int32
	// CUresult cuDeviceGet(CUdevice *device, int ordinal);
	device func(device *int32, ordinal int32) int32
	// CUresult cuDeviceGetName(char *name, int length, CUdevice device);
	name func(name *byte, length, device int32) int32
	// CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device);
	attribute func(value *int32, attribute, device int32) int32
	// CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device);
	uuid func(uuid *[16]byte, device int32) int32
	// CUresult cuGetErrorString(CUresult error, const char **text);
	errorString func(code int32, text **byte) int32
}

// Read returns what the driver reports. CUDA_VISIBLE_DEVICES applies; without
// CUDA_DEVICE_ORDER the GPUs are numbered as NVML does. The first call decides, because
// the driver reads these variables only once. A driver without usable GPUs is no error.
var Read = sync.OnceValues(func() (Driver, error) { return read(libraryName()) })

func libraryName() string {
	if runtime.GOOS == "windows" {
		return "nvcuda.dll"
	}
	return "libcuda.so.1"
}

func read(name string) (Driver, error) {
	if os.Getenv(OrderVariable) == "" {
		native.Setenv(OrderVariable, "PCI_BUS_ID")
	}
	lib, err := native.OpenSystem(name)
	if err != nil {
		return Driver{}, fmt.Errorf("%w: %w", ErrNoDriver, err)
	}
	var d driver
	if err := lib.Bind("update NVIDIA's driver",
		native.Func{Name: "cuInit", Ptr: &d.init}, native.Func{Name: "cuDriverGetVersion", Ptr: &d.version},
		native.Func{Name: "cuDeviceGetCount", Ptr: &d.count}, native.Func{Name: "cuDeviceGet", Ptr: &d.device},
		native.Func{Name: "cuDeviceGetName", Ptr: &d.name}, native.Func{Name: "cuDeviceGetAttribute", Ptr: &d.attribute},
		native.Func{Name: "cuDeviceGetUuid", Ptr: &d.uuid}, native.Func{Name: "cuGetErrorString", Ptr: &d.errorString},
	); err != nil {
		return Driver{}, err
	}
	var version int32
	if err := d.check("cuDriverGetVersion", d.version(&version)); err != nil {
		return Driver{}, err
	}
	found := Driver{CUDA: int(version)}
	if code := d.init(0); code == noDevice {
		return found, nil
	} else if err := d.check("cuInit", code); err != nil {
		return found, err
	}
	var n int32
	if err := d.check("cuDeviceGetCount", d.count(&n)); err != nil {
		return found, err
	}
	for i := range n {
		dev, err := d.read(i)
		if err != nil {
			return found, err
		}
		found.Devices = append(found.Devices, dev)
	}
	return found, nil
}

// read returns one GPU.
func (d *driver) read(i int32) (Device, error) {
	var id, major, minor int32
	name := make([]byte, nameLength)
	dev := Device{Index: int(i)}
	for _, call := range []struct {
		function string
		code     func() int32
	}{
		{"cuDeviceGet", func() int32 { return d.device(&id, i) }},
		{"cuDeviceGetName", func() int32 { return d.name(&name[0], nameLength, id) }},
		{"cuDeviceGetAttribute", func() int32 { return d.attribute(&major, capabilityMajor, id) }},
		{"cuDeviceGetAttribute", func() int32 { return d.attribute(&minor, capabilityMinor, id) }},
	} {
		if err := d.check(call.function, call.code()); err != nil {
			return dev, err
		}
	}
	dev.Name = native.GoString(&name[0])
	dev.Capability = fmt.Sprintf("%d.%d", major, minor)
	var u [16]byte
	if d.uuid(&u, id) == success { // not essential
		dev.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	}
	return dev, nil
}

func (d *driver) check(function string, code int32) error {
	if code == success {
		return nil
	}
	var text *byte
	d.errorString(code, &text) // leaves nil for an unknown code
	return fmt.Errorf("NVIDIA's driver: %s: %s (%d)", function, native.GoString(text), code)
}
