package onnx

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// TestSplitPReLU checks the nodes. The golden test of the face mesh shows that their result
// is right.
func TestSplitPReLU(t *testing.T) {
	g := New("m")
	x := g.Input("x", tensor.F32, 1, 2, 4)
	y := g.Op("PRelu", []Value{g.Op("Neg", []Value{x}), g.Floats([]float32{0.5, 2}, 2, 1)})
	g.Output("y", y, tensor.F32, 1, 2, 4)
	model := g.Encode(nil)
	split, err := SplitPReLU(model)
	if err != nil {
		t.Fatal(err)
	}
	var nodes []Node
	constants := 0
	err = fields(split, func(number protowire.Number, value, _ []byte) error {
		if number != modelGraph {
			return nil
		}
		return fields(value, func(number protowire.Number, value, _ []byte) error {
			switch number {
			case graphNode:
				n, err := decodeNode(value)
				nodes = append(nodes, n)
				return err
			case graphInitializer:
				constants++
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	var ops []string
	for _, n := range nodes {
		ops = append(ops, n.Op)
	}
	if want := []string{"Neg", "Relu", "Min", "Mul", "Add", "Identity"}; !slices.Equal(ops, want) {
		t.Fatalf("the nodes are %v, want %v", ops, want)
	}
	if last := nodes[4]; last.Out != y || !slices.Equal(last.In, []Value{nodes[1].Out, nodes[3].Out}) || nodes[3].In[1] != "const_0" {
		t.Errorf("the nodes are connected as %+v", nodes)
	}
	if constants != 2 {
		t.Errorf("there are %d constants, want the slope and zero", constants)
	}
	if again, err := SplitPReLU(model[:len(model)-1]); fault.KindOf(err) != fault.Input {
		t.Errorf("the model without its last byte: %d bytes, %v", len(again), err)
	}
}

// TestFirstNames reads the names of nodes, which graphs of this package do not have.
func TestFirstNames(t *testing.T) {
	var graph message
	for _, name := range []string{"_minusscalar0", "", "_mulscalar0", "conv0"} {
		graph = graph.bytes(graphNode, message(nil).text(nodeOp, "Conv").text(nodeName, name))
	}
	model := message(nil).varint(1, irVersion).bytes(modelGraph, graph.text(2, "name of the graph"))
	for n, want := range [][]string{nil, 3: {"_minusscalar0", "", "_mulscalar0"}, 9: {"_minusscalar0", "", "_mulscalar0", "conv0"}} {
		if n > 0 && want == nil {
			continue
		}
		if got, err := FirstNames(bytes.NewReader(model), int64(len(model)), n); err != nil || !slices.Equal(got, want) {
			t.Errorf("%d names: %q, %v", n, got, err)
		}
	}
	if _, err := FirstNames(strings.NewReader("no model"), 8, 8); fault.KindOf(err) != fault.Input {
		t.Error(err)
	}
}
