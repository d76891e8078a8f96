package onnx

import (
	"bytes"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestFixDim makes a model with a named dimension out of one without, and back.
func TestFixDim(t *testing.T) {
	g := New("m")
	g.Output("y", g.Op("Neg", []Value{g.Input("x", tensor.F32, 7, 3)}), tensor.F32, 7, 3)
	fixed := g.Encode(nil)
	named, err := rewrite(fixed, toDims, func(dim []byte) (message, error) {
		if bytes.Equal(dim, message(nil).varint(dimValue, 7)) {
			return message(nil).text(dimParam, "batch"), nil
		}
		return dim, nil
	})
	if err != nil || bytes.Equal(named, fixed) {
		t.Fatalf("no dimension has a name: %v", err)
	}
	if got, err := FixDim(named, "batch", 7); err != nil || !bytes.Equal(got, fixed) {
		t.Errorf("the model is %q instead of %q, %v", got, fixed, err)
	}
	if got, err := FixDim(named, "frames", 7); err != nil || !bytes.Equal(got, named) {
		t.Errorf("another name changes the model to %q, %v", got, err)
	}
	if _, err := FixDim(named[:len(named)-1], "batch", 7); fault.KindOf(err) != fault.Input {
		t.Errorf("the model without its last byte: %v", err)
	}
}
