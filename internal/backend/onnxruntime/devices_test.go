package onnxruntime

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/backend/cuda"
	"github.com/lipstream/lipstream/internal/fault"
)

// TestNVIDIADevices lists the cards of drivers that work, fail, and do not exist. A device
// that cannot be used has an error with a hint.
func TestNVIDIADevices(t *testing.T) {
	turing, pascal := cuda.Device{Index: 0, Name: "RTX 2080", UUID: "GPU-1", Capability: "7.5"}, cuda.Device{Index: 1, Name: "GTX 1080", Capability: "6.1"}
	broken := errors.New("NVIDIA's driver: cuInit: the driver and the library differ (803)")
	unloaded := fault.Missing.New("load libcudart.so.13", "it does not exist", cudaHint)
	for _, c := range []struct {
		name             string
		cards            []cuda.Device
		failed, unloaded error
		want             []string // what the errors of the devices contain
	}{
		{"two cards, one too old", []cuda.Device{turing, pascal}, nil, nil, []string{"", "compute capability 6.1"}},
		{"without CUDA's libraries", []cuda.Device{turing}, nil, unloaded, []string{"libcudart"}},
		{"no card", nil, nil, nil, nil},
		{"no driver", nil, fmt.Errorf("%w: libcuda.so.1", cuda.ErrNoDriver), nil, nil},
		{"the driver fails", nil, broken, nil, []string{"803"}},
		{"the driver fails at the second card", []cuda.Device{turing}, broken, nil, []string{"", "803"}},
	} {
		list := nvidiaDevices(cuda.Driver{Devices: c.cards}, c.failed, c.unloaded)
		if len(list) != len(c.want) {
			t.Fatalf("%s: %+v", c.name, list)
		}
		for i, d := range list {
			if d.ID != fmt.Sprintf("cuda:%d", i) || d.Name == "" {
				t.Errorf("%s: device %d is %+v", c.name, i, d)
			}
			if (d.Err == nil) != (c.want[i] == "") {
				t.Errorf("%s: device %d: %v", c.name, i, d.Err)
			} else if d.Err != nil && (!strings.Contains(d.Err.Error(), c.want[i]) || fault.HintOf(d.Err) == "") {
				t.Errorf("%s: device %d: %v, hint %q", c.name, i, d.Err, fault.HintOf(d.Err))
			}
		}
	}
}
