//go:build linux || windows

package memory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ebitengine/purego"
	"github.com/shirou/gopsutil/v4/process"
)

// nvmlReturn is nvmlReturn_t, an enum.
type nvmlReturn int32

const (
	nvmlSuccess         nvmlReturn = 0
	nvmlNotSupported    nvmlReturn = 3
	nvmlDriverNotLoaded nvmlReturn = 9  // the library exists (as in containers), the driver does not
	nvmlLibraryNotFound nvmlReturn = 12 // an incomplete installation
	nvmlNameLength                 = 96 // NVML_DEVICE_NAME_V2_BUFFER_SIZE
	nvmlVersionLength              = 80 // NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
	nvmlMaxDevices      uint32     = 64 // larger counts are not plausible
)

// nvmlMemory is nvmlMemory_t:
//
//	typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
//
// What is used follows from the others; see list.
type nvmlMemory struct{ total, free, _ uint64 }

// nvmlUtilization is nvmlUtilization_t, in percent:
//
//	typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
type nvmlUtilization struct{ gpu, _ uint32 }

// nvmlProcess is nvmlProcessInfo_v2_t:
//
//	typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
type nvmlProcess struct {
	pid  uint32
	used uint64 // all ones if it is not known, as on Windows with a display
	_, _ uint32
}

// nvmlMaxProcesses bounds how many processes of a GPU are read.
const nvmlMaxProcesses = 128

// nvmlTemperatureGPU is NVML_TEMPERATURE_GPU, the sensor on the chip.
const nvmlTemperatureGPU int32 = 0

// nvml is NVIDIA's management library, initialised.
type nvml struct {
	// nvmlReturn_t nvmlInit_v2(void);
	init func() nvmlReturn
	// nvmlReturn_t nvmlShutdown(void);
	shutdown func() nvmlReturn
	// const char *nvmlErrorString(nvmlReturn_t result);
	errorString func(nvmlReturn) string
	// nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length);
	driverVersion func(version *byte, length uint32) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount);
	count func(n *uint32) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device);
	// nvmlDevice_t is a pointer to a struct that only the library knows.
	handle func(index uint32, device *uintptr) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length);
	name func(device uintptr, name *byte, length uint32) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory);
	memory func(device uintptr, m *nvmlMemory) nvmlReturn

	// These are optional, and nil if the library does not have them.

	// nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization);
	utilization func(device uintptr, u *nvmlUtilization) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *temp);
	temperature func(device uintptr, sensor int32, degrees *uint32) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos);
	processes func(device uintptr, count *uint32, infos *nvmlProcess) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length);
	uuid func(device uintptr, uuid *byte, length uint32) nvmlReturn
	// nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power);
	power func(device uintptr, milliwatts *uint32) nvmlReturn

	lib library
}

// library is a loaded shared library.
type library interface {
	symbol(name string) (uintptr, error)
	close() error
}

// openNVML loads and initialises the library; with name "" it searches the usual
// places. Without a library or a driver it returns nil and no error.
func openNVML(name string) (*nvml, error) {
	lib, err := openLibrary(name)
	if err != nil {
		if name == "" {
			return nil, nil // not installed, so there are no usable NVIDIA GPUs
		}
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	n := &nvml{lib: lib}
	for _, s := range []struct {
		name     string
		f        any
		optional bool
	}{
		{"nvmlInit_v2", &n.init, false},
		{"nvmlShutdown", &n.shutdown, false},
		{"nvmlErrorString", &n.errorString, false},
		{"nvmlSystemGetDriverVersion", &n.driverVersion, false},
		{"nvmlDeviceGetCount_v2", &n.count, false},
		{"nvmlDeviceGetHandleByIndex_v2", &n.handle, false},
		{"nvmlDeviceGetName", &n.name, false},
		{"nvmlDeviceGetMemoryInfo", &n.memory, false},
		{"nvmlDeviceGetUtilizationRates", &n.utilization, true},
		{"nvmlDeviceGetTemperature", &n.temperature, true},
		{"nvmlDeviceGetPowerUsage", &n.power, true},
		{"nvmlDeviceGetUUID", &n.uuid, true},
		{"nvmlDeviceGetComputeRunningProcesses_v3", &n.processes, true},
	} {
		// RegisterFunc panics if the symbol does not exist.
		address, err := lib.symbol(s.name)
		if err == nil {
			purego.RegisterFunc(s.f, address)
		} else if !s.optional {
			return nil, errors.Join(fmt.Errorf("NVIDIA's management library: %s: %w", s.name, err), lib.close())
		}
	}
	switch r := n.init(); r {
	case nvmlSuccess:
		return n, nil
	case nvmlDriverNotLoaded, nvmlLibraryNotFound:
		return nil, lib.close()
	default:
		// Such as "Driver/library version mismatch" after an update: there is a
		// GPU, and the user should learn why it is not used.
		return nil, errors.Join(n.failure("nvmlInit_v2", r), lib.close())
	}
}

func (n *nvml) failure(function string, r nvmlReturn) error {
	return fmt.Errorf("NVIDIA's management library: %s: %s (%d)", function, n.errorString(r), r)
}

// list reads all devices. If one fails (fallen off the bus, not permitted), the
// others are listed all the same.
func (n *nvml) list() ([]GPU, error) {
	var count uint32
	if r := n.count(&count); r != nvmlSuccess {
		return nil, n.failure("nvmlDeviceGetCount_v2", r)
	}
	driver := make([]byte, nvmlVersionLength)
	if r := n.driverVersion(&driver[0], nvmlVersionLength); r != nvmlSuccess {
		driver = nil // not essential
	}
	var gpus []GPU
	var errs []error
	for i := range min(count, nvmlMaxDevices) {
		var device uintptr
		if r := n.handle(i, &device); r != nvmlSuccess {
			errs = append(errs, n.failure("nvmlDeviceGetHandleByIndex_v2", r))
			continue
		}
		g := GPU{Vendor: "nvidia", Index: int(i), Driver: cString(driver)}
		name := make([]byte, nvmlNameLength)
		if r := n.name(device, &name[0], nvmlNameLength); r == nvmlSuccess {
			g.Name = cString(name)
		} else {
			g.Name = fmt.Sprintf("NVIDIA GPU %d", i)
		}
		var m nvmlMemory
		switch r := n.memory(device, &m); r {
		case nvmlSuccess:
			// The difference, because newer libraries do not count what the
			// driver reserves as used, although nobody can use it.
			g.Total, g.Used = int64(m.total), int64(m.total-min(m.free, m.total))
		case nvmlNotSupported: // boards whose GPU uses the host's memory (Jetson, GB10)
			g.Shared = true
		default:
			errs = append(errs, n.failure("nvmlDeviceGetMemoryInfo", r))
			continue
		}
		n.condition(device, &g)
		gpus = append(gpus, g)
	}
	return gpus, errors.Join(errs...)
}

// condition reads the UUID, utilisation, temperature and power, as far as the device reports them.
func (n *nvml) condition(device uintptr, g *GPU) {
	g.Processes = n.running(device)
	id := make([]byte, nvmlNameLength)
	if n.uuid != nil && n.uuid(device, &id[0], nvmlNameLength) == nvmlSuccess {
		g.UUID = cString(id)
	}
	g.Utilisation = -1
	var u nvmlUtilization
	if n.utilization != nil && n.utilization(device, &u) == nvmlSuccess {
		g.Utilisation = share(int(u.gpu))
	}
	var v uint32
	if n.temperature != nil && n.temperature(device, nvmlTemperatureGPU, &v) == nvmlSuccess {
		g.Temperature = float64(v)
	}
	if n.power != nil && n.power(device, &v) == nvmlSuccess {
		g.Power = float64(v) / 1000
	}
}

// running lists the processes that compute on a device, the largest first.
func (n *nvml) running(device uintptr) []GPUProcess {
	if n.processes == nil {
		return nil
	}
	infos, count := make([]nvmlProcess, nvmlMaxProcesses), uint32(nvmlMaxProcesses)
	if n.processes(device, &count, &infos[0]) != nvmlSuccess || count > nvmlMaxProcesses {
		return nil
	}
	var list []GPUProcess
	for _, p := range infos[:count] {
		if p.used == math.MaxUint64 {
			continue
		}
		g := GPUProcess{PID: int(p.pid), Used: int64(p.used)}
		if running, err := process.NewProcess(int32(p.pid)); err == nil {
			g.Name, _ = running.Name() // of another user it cannot be read
		}
		list = append(list, g)
	}
	slices.SortStableFunc(list, func(a, b GPUProcess) int { return cmp.Compare(b.Used, a.Used) })
	return list
}

func (n *nvml) close() error {
	r := n.shutdown()
	if r != nvmlSuccess {
		return errors.Join(n.failure("nvmlShutdown", r), n.lib.close())
	}
	return n.lib.close()
}

// cString returns a buffer's text up to the NUL.
func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
