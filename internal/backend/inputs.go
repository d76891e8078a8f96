package backend

import (
	"fmt"
	"slices"

	"github.com/lipstream/lipstream/internal/fault"
)

// CheckInputs compares the inputs of a Run with the session's ports, so that the
// library never gets a tensor whose bytes and shape disagree.
func CheckInputs(model string, ports []Port, in map[string]Value) error {
	wrong := func(format string, args ...any) error {
		return fault.Internal.New("run model "+model, fmt.Sprintf(format, args...))
	}
	for _, p := range ports {
		v := in[p.Name]
		if v == nil {
			return wrong("input %q is missing", p.Name)
		}
		if v.DType() != p.DType {
			return wrong("input %q is %v instead of %v", p.Name, v.DType(), p.DType)
		}
		if !p.Accepts(v.Shape()) {
			return wrong("input %q has shape %v instead of %v", p.Name, v.Shape(), p.Shape)
		}
		if t, ok := HostTensor(v); ok {
			if want := t.Len() * t.DType.Size(); len(t.Data) != want {
				return wrong("input %q holds %d bytes, but its shape %v needs %d", p.Name, len(t.Data), t.Shape, want)
			}
		}
	}
	if len(in) == len(ports) {
		return nil
	}
	for name := range in {
		if !slices.ContainsFunc(ports, func(p Port) bool { return p.Name == name }) {
			return wrong("the model has no input %q", name)
		}
	}
	return nil
}

// Accepts reports whether a tensor of this shape fits the port. A port without a shape
// has an unknown rank.
func (p Port) Accepts(shape []int) bool {
	if p.Shape == nil {
		return true
	}
	if len(shape) != len(p.Shape) {
		return false
	}
	for i, d := range shape {
		if d < 0 || p.Shape[i] >= 0 && d != p.Shape[i] {
			return false
		}
	}
	return true
}
