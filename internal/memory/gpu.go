package memory

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// GPU is a graphics processor and its memory, in bytes.
type GPU struct {
	Vendor string // "nvidia", "amd", "intel"
	Index  int    // among those of its vendor, in the driver's order
	Name   string // as the maker calls it, or the PCI device number
	Driver string // version, or the kernel module where it tells no version
	// Total and Used are 0 where they cannot be read. For NVIDIA, Used is
	// what all processes use together.
	Total, Used int64
	// Shared is true for a GPU without memory of its own that can be read:
	// it takes from the host's.
	Shared bool
	// Utilisation is the share of time in which the GPU was at work lately, 0
	// to 1, and -1 where it cannot be read.
	Utilisation float64
	// Temperature of the chip in degrees Celsius and Power in watts are 0
	// where they cannot be read.
	Temperature, Power float64
}

// ID names the GPU among all of the machine: "nvidia:0".
func (g GPU) ID() string { return g.Vendor + ":" + strconv.Itoa(g.Index) }

// Free is what is left of Total.
func (g GPU) Free() int64 { return max(0, g.Total-g.Used) }

// GPUReader reads the GPUs again and again; opening the driver's library can
// take a second, a reading takes well below a millisecond.
type GPUReader struct {
	probe Probe
	nvml  *nvml
	err   error // why NVIDIA's GPUs cannot be read
}

// OpenGPUs gets ready to read the GPUs. What is not installed is not an error.
func (p Probe) OpenGPUs() *GPUReader {
	r := &GPUReader{probe: p}
	r.nvml, r.err = openNVML(p.NVML)
	return r
}

// Read lists the GPUs as they are now. With an error the list holds those that
// could be read.
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

// Close lets the driver's library go.
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

// drmGPUs reads AMD's and Intel's GPUs from /sys/class/drm (Linux). NVIDIA's
// stand there as well, but without figures.
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

// cardNumber is the 0 of ".../card0", and -1 for connectors ("card0-HDMI-A-1").
func cardNumber(dir string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "card"))
	if err != nil {
		return -1
	}
	return n
}

// intelMemory reads the memory of a discrete Intel GPU where its driver tells:
// in Intel's own builds of i915 beside the card, in xe below each tile. What
// is in use, neither tells.
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
// thousandths of a degree and millionths of a watt. amdgpu has the edge of the
// chip as temp1, xe the package as temp2.
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

// share makes 0 to 1 of percent, and -1 of what is none.
func share(percent int) float64 {
	if percent < 0 || percent > 100 {
		return -1
	}
	return float64(percent) / 100
}

// moduleVersion is the version of the kernel module that drives a device, or
// its name: modules of the kernel's own tree have no version.
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

// textFile is the trimmed content of a file of /sys, or "".
func textFile(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// numberFile is the number in a file of /sys, decimal or with 0x, or 0.
func numberFile(dir, name string) int64 {
	n, err := strconv.ParseInt(textFile(dir, name), 0, 64)
	if err != nil {
		return 0
	}
	return n
}
