package memory

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// GPU describes a graphics processor and its memory, in bytes.
type GPU struct {
	Vendor string // "nvidia", "amd", "intel"
	Index  int    // among those of its vendor, in the driver's order
	Name   string // the maker's name, or the PCI device number
	Driver string // its version, or the kernel module if that has no version
	UUID   string // of an NVIDIA GPU, "GPU-8d2c..."; else ""
	// Total and Used are 0 if they cannot be read. For NVIDIA, Used counts all
	// processes.
	Total, Used int64
	// Shared is true for a GPU that uses the host's memory, or whose own memory
	// cannot be read.
	Shared bool
	// Utilisation is the fraction of recent time in which the GPU was busy, 0 to
	// 1, or -1 if it cannot be read.
	Utilisation float64
	// Temperature of the chip in degrees Celsius and Power in watts are 0 if they
	// cannot be read.
	Temperature, Power float64
	// Processes are those that compute on an NVIDIA GPU, the largest first. In a
	// container the driver may report the numbers of the host, or no processes.
	Processes []GPUProcess
}

// GPUProcess is a process that computes on a GPU.
type GPUProcess struct {
	PID  int
	Name string // of its program; "" if it cannot be read
	Used int64  // bytes of the GPU's memory
}

// ID returns the name of the GPU within the machine, such as "nvidia:0".
func (g GPU) ID() string { return g.Vendor + ":" + strconv.Itoa(g.Index) }

// Free returns what is left of Total.
func (g GPU) Free() int64 { return max(0, g.Total-g.Used) }

// HeldBy returns how much of the GPU's memory a process holds, or 0 if that is not known.
func (g GPU) HeldBy(pid int) int64 {
	for _, p := range g.Processes {
		if p.PID == pid {
			return p.Used
		}
	}
	return 0
}

// GPUReader reads the GPUs repeatedly. Opening the driver's library can take a
// second, a reading takes well below a millisecond.
type GPUReader struct {
	probe Probe
	nvml  *nvml
	err   error // why NVIDIA's GPUs cannot be read
}

// OpenGPUs returns a reader of the GPUs. A missing driver is not an error.
func (p Probe) OpenGPUs() *GPUReader {
	r := &GPUReader{probe: p}
	r.nvml, r.err = openNVML(p.NVML)
	return r
}

// Read returns the current state of the GPUs. With an error, the list holds those
// that could be read.
func (r *GPUReader) Read() ([]GPU, error) {
	var all []GPU
	err := r.err
	if r.nvml != nil {
		var gpus []GPU
		gpus, err = r.nvml.list()
		all = append(all, gpus...)
	}
	return append(all, r.probe.drmGPUs()...), err
}

// Close releases the driver's library.
func (r *GPUReader) Close() error {
	if r.nvml == nil {
		return nil
	}
	n := r.nvml
	r.nvml = nil
	return n.close()
}

// GPUs lists the GPUs once.
func (p Probe) GPUs() ([]GPU, error) {
	r := p.OpenGPUs()
	gpus, err := r.Read()
	return gpus, errors.Join(err, r.Close())
}

// PCI vendor numbers, as /sys writes them.
const (
	pciAMD   = "0x1002"
	pciIntel = "0x8086"
)

// drmGPUs reads AMD's and Intel's GPUs from /sys/class/drm (Linux). NVIDIA's are
// listed there without figures.
func (p Probe) drmGPUs() []GPU {
	if !p.procfs() {
		return nil
	}
	dirs, err := filepath.Glob(p.path("/sys/class/drm/card*"))
	if err != nil {
		return nil // only for a malformed pattern
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return cardNumber(dir) < 0 })
	slices.SortFunc(dirs, func(a, b string) int { return cardNumber(a) - cardNumber(b) })
	var gpus []GPU
	index := map[string]int{}
	for _, dir := range dirs {
		device := filepath.Join(dir, "device")
		g := GPU{Name: textFile(device, "product_name"), Driver: p.moduleVersion(device), Utilisation: -1}
		switch textFile(device, "vendor") {
		case pciAMD:
			g.Vendor = "amd"
			g.Total = numberFile(device, "mem_info_vram_total")
			g.Used = numberFile(device, "mem_info_vram_used")
			if n, err := strconv.Atoi(textFile(device, "gpu_busy_percent")); err == nil {
				g.Utilisation = share(n)
			}
		case pciIntel:
			g.Vendor = "intel"
			g.Total, g.Used = intelMemory(dir)
			g.Shared = g.Total == 0
		default:
			continue
		}
		if g.Name == "" {
			g.Name = strings.TrimSpace(g.Vendor + " GPU " + textFile(device, "device"))
		}
		g.Temperature, g.Power = sensors(device)
		g.Index = index[g.Vendor]
		index[g.Vendor]++
		gpus = append(gpus, g)
	}
	return gpus
}

// cardNumber returns the 0 of ".../card0", or -1 for connectors ("card0-HDMI-A-1").
func cardNumber(dir string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "card"))
	if err != nil {
		return -1
	}
	return n
}

// intelMemory reads the memory of a discrete Intel GPU if its driver reports it:
// Intel's own builds of i915 beside the card, xe below each tile. xe does not
// report how much is used.
func intelMemory(dir string) (total, used int64) {
	if total = numberFile(dir, "lmem_total_bytes"); total > 0 {
		if avail := numberFile(dir, "lmem_avail_bytes"); avail > 0 {
			used = max(0, total-avail)
		}
		return total, used
	}
	tiles, err := filepath.Glob(filepath.Join(dir, "device", "tile*"))
	if err != nil {
		return 0, 0
	}
	for _, tile := range tiles {
		total += numberFile(tile, "physical_vram_size_bytes")
	}
	return total, 0
}

// sensors reads a GPU's hwmon, in degrees Celsius and watts. The files are in
// thousandths of a degree and millionths of a watt. temp1 is the edge of the chip
// for amdgpu, temp2 the package for xe.
func sensors(device string) (temperature, power float64) {
	dirs, err := filepath.Glob(filepath.Join(device, "hwmon", "hwmon*"))
	if err != nil || len(dirs) == 0 {
		return 0, 0
	}
	first := func(names ...string) float64 {
		for _, name := range names {
			if n := numberFile(dirs[0], name); n > 0 {
				return float64(n)
			}
		}
		return 0
	}
	return first("temp1_input", "temp2_input") / 1e3, first("power1_average", "power1_input") / 1e6
}

// share converts a percentage to 0 to 1, and anything else to -1.
func share(percent int) float64 {
	if percent < 0 || percent > 100 {
		return -1
	}
	return float64(percent) / 100
}

// moduleVersion returns the name of the kernel module that drives a device, with
// its version if it has one: modules of the kernel's own tree have none.
func (p Probe) moduleVersion(device string) string {
	target, err := os.Readlink(filepath.Join(device, "driver"))
	if err != nil {
		return ""
	}
	name := filepath.Base(target)
	if v := textFile(p.path("/sys/module", name), "version"); v != "" {
		return name + " " + v
	}
	return name
}

// textFile returns the trimmed content of a file of /sys, or "".
func textFile(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// numberFile returns the number in a file of /sys, decimal or with 0x, or 0.
func numberFile(dir, name string) int64 {
	n, err := strconv.ParseInt(textFile(dir, name), 0, 64)
	if err != nil {
		return 0
	}
	return n
}
