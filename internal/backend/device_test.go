package backend

import (
	"testing"

	"github.com/lipstream/lipstream/internal/memory"
)

func TestGPUOfADevice(t *testing.T) {
	const a, b = "GPU-8d2c0000-0000-0000-0000-000000000000", "GPU-11110000-0000-0000-0000-000000000000"
	list := []memory.GPU{
		{Vendor: "nvidia", Index: 0, UUID: a, Total: 1},
		{Vendor: "nvidia", Index: 1, UUID: b, Total: 2},
		{Vendor: "intel", Index: 0, Total: 3},
		{Vendor: "intel", Index: 1, Total: 4, Shared: true},
		{Vendor: "amd", Index: 0},
	}
	for _, c := range []struct {
		device Device
		want   int64 // Total, or 0 for none
	}{
		{Device{ID: "cuda:0"}, 1},
		{Device{ID: "cuda:0", UUID: b}, 2}, // CUDA_VISIBLE_DEVICES=1
		{Device{ID: "cuda:1", UUID: "gpu-8D2C0000-0000-0000-0000-000000000000"}, 1},
		{Device{ID: "cuda:7"}, 0},
		{Device{ID: "gpu"}, 3},
		{Device{ID: "gpu:1"}, 0},  // uses the memory of the host
		{Device{ID: "rocm:0"}, 0}, // size unknown
		{Device{ID: "cpu"}, 0},
	} {
		got := int64(0)
		if g := c.device.GPU(list); g != nil {
			got = g.Total
		}
		if got != c.want {
			t.Errorf("%+v: the GPU with %d bytes instead of %d", c.device, got, c.want)
		}
	}
}
