package backend

import (
	"fmt"
	"slices"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// CheckInputs compares what a caller hands to Run with the session's ports, so
// that the native library never sees a tensor whose bytes and shape disagree.
func CheckInputs(model string, ports []Port, in map[string]*tensor.Tensor) error {
	wrong := func(format string, args ...any) error {
		return fault.Internal.New("run model "+model, fmt.Sprintf(format, args...))
	}
	for _, p := range ports {
		t := in[p.Name]
		if t == nil {
			return wrong("input %q is missing", p.Name)
		}
		if t.DType != p.DType {
			return wrong("input %q is %v, the model takes %v", p.Name, t.DType, p.DType)
		}
		if !fits(t.Shape, p.Shape) {
			return wrong("input %q has shape %v, the model takes %v", p.Name, t.Shape, p.Shape)
		}
		if want := t.Len() * t.DType.Size(); len(t.Data) != want {
			return wrong("input %q holds %d bytes, its shape %v needs %d", p.Name, len(t.Data), t.Shape, want)
		}
	}
	if len(in) == len(ports) {
		return nil
	}
	for name := range in {
		if !slices.ContainsFunc(ports, func(p Port) bool { return p.Name == name }) {
			return wrong("it has no input %q", name)
		}
	}
	return nil
}

// fits tells whether shape is one that a port with -1 for free dimensions
// takes; a nil port is of unknown rank.
func fits(shape, port []int) bool {
	if port == nil {
		return true
	}
	if len(shape) != len(port) {
		return false
	}
	for i, d := range shape {
		if d < 0 || port[i] >= 0 && d != port[i] {
			return false
		}
	}
	return true
}
