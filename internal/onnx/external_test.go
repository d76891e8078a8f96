package onnx

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lipstream/lipstream/internal/tensor"
)

// TestExternal finds weights in other files wherever ONNX allows them.
func TestExternal(t *testing.T) {
	graph := func(weight bool) message {
		g := New("g")
		x := g.Input("x", tensor.F32, 1)
		y := g.Floats([]float32{1})
		if weight {
			y = g.Weight(Weight{Name: "w", Tensor: tensor.FromF32([]float32{1}, 1)})
		}
		g.Output("y", g.Op("Add", []Value{x, y}, Int("a", 1), Float("b", 2), String("c", "d"), Ints("e", 1, 2)), tensor.F32, 1)
		return g.Encode(func(Weight) (string, uint64) { return "/etc/passwd", 8 })
	}
	own, other := graph(false), graph(true)
	inner := func(model message) (g message) { // the graph of a model
		if err := fields(model, func(number protowire.Number, value, _ []byte) error {
			if number == modelGraph {
				g = value
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return g
	}
	// a tensor whose only sign is its location, or its key
	located, keyed := message(nil).varint(1, 1).varint(14, 1), message(nil).bytes(13, message(nil).text(1, "location").text(2, "x"))
	model := func(graph message) message { return message(nil).varint(1, 9).bytes(7, graph) }
	attribute := func(a message) message { return model(message(nil).bytes(1, message(nil).text(4, "If").bytes(5, a))) }
	deep := message(nil)
	for range maxDepth {
		deep = message(nil).bytes(1, message(nil).bytes(5, message(nil).bytes(6, deep)))
	}
	for name, c := range map[string]struct {
		model    message
		external bool
		broken   bool
	}{
		"own weights":           {own, false, false},
		"a weight elsewhere":    {other, true, false},
		"located":               {model(message(nil).bytes(5, located)), true, false},
		"keyed":                 {model(message(nil).bytes(5, keyed)), true, false},
		"raw bytes of that":     {model(message(nil).bytes(5, message(nil).bytes(9, located))), false, false},
		"a constant's":          {attribute(message(nil).bytes(5, located)), true, false},
		"constants'":            {attribute(message(nil).bytes(10, keyed)), true, false},
		"a branch's":            {attribute(message(nil).bytes(6, inner(other))), true, false},
		"branches'":             {attribute(message(nil).bytes(11, inner(other))), true, false},
		"a branch's own":        {attribute(message(nil).bytes(6, inner(own))), false, false},
		"sparse":                {model(message(nil).bytes(15, message(nil).bytes(1, located))), true, false},
		"indices of sparse":     {attribute(message(nil).bytes(22, message(nil).bytes(2, located))), true, false},
		"a function's":          {message(nil).bytes(25, message(nil).bytes(7, message(nil).bytes(5, message(nil).bytes(5, located)))), true, false},
		"a function's default":  {message(nil).bytes(25, message(nil).bytes(11, message(nil).bytes(5, located))), true, false},
		"for training":          {message(nil).bytes(20, message(nil).bytes(2, inner(other))), true, false},
		"too deep":              {model(deep), false, true},
		"cut":                   {own[:len(own)/2], false, true},
		"a length past the end": {message(nil).varint(1, 9).bytes(7, nil)[:3], false, true},
		"a group":               {message{0x3b, 0x3c}, false, true},
		"nothing":               {nil, false, false},
	} {
		got, err := External(bytes.NewReader(c.model), int64(len(c.model)))
		if got != c.external || (err != nil) != c.broken {
			t.Errorf("%s: external %v, error %v", name, got, err)
		}
	}
}
