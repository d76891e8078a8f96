package backend

import (
	"errors"
	"testing"
)

// devices is a backend that only lists its devices.
type devices struct {
	Backend
	list []Device
	err  error
}

func (d devices) Devices() ([]Device, error) { return d.list, d.err }

func TestFusesAttention(t *testing.T) {
	b := devices{list: []Device{{ID: "cuda:0"}, {ID: "cpu", FusesAttention: true}}}
	for device, want := range map[string]bool{"": false, "cuda:0": false, "cpu": true, "gpu:7": false} {
		if got := FusesAttention(b, device); got != want {
			t.Errorf("device %q: %v", device, got)
		}
	}
	if FusesAttention(devices{err: errors.New("no driver")}, "cpu") || FusesAttention(devices{}, "") {
		t.Error("an unknown device fuses attention")
	}
}
