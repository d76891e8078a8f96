package backend

import (
	"strconv"
	"strings"

	"github.com/lipstream/lipstream/internal/memory"
)

// Vendor returns the maker of the GPU that the device is, as in memory.GPU, or "" for a
// CPU.
func (d Device) Vendor() string {
	kind, _, _ := strings.Cut(d.ID, ":")
	return map[string]string{"cuda": "nvidia", "tensorrt": "nvidia", "tensorrt-rtx": "nvidia", "gpu": "intel", "rocm": "amd", "migraphx": "amd"}[kind]
}

// GPU returns the GPU of the list that the device is, or nil if its memory is not known
// or is that of the host. NVIDIA's are compared by their UUID: CUDA_VISIBLE_DEVICES makes
// the numbers differ.
func (d Device) GPU(list []memory.GPU) *memory.GPU {
	_, number, _ := strings.Cut(d.ID, ":")
	n, _ := strconv.Atoi(number) // a device without a number is the first
	for _, g := range list {
		same := g.Index == n
		if g.UUID != "" && d.UUID != "" {
			same = strings.EqualFold(g.UUID, d.UUID)
		}
		if g.Vendor == d.Vendor() && same && !g.Shared && g.Total > 0 {
			return &g
		}
	}
	return nil
}
