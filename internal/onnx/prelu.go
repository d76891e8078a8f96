package onnx

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// The fields of onnx.proto3 that are read.
const (
	modelGraph       = 7
	graphNode        = 1
	graphInitializer = 5
	nodeInput        = 1
	nodeOutput       = 2
	nodeName         = 3
	nodeOp           = 4
)

// SplitPReLU returns a copy of an encoded model that computes each PRelu with slope a
// as Relu(x) + a·Min(x, 0), which has the same result.
func SplitPReLU(model []byte) ([]byte, error) {
	var out message
	err := fields(model, func(number protowire.Number, value, whole []byte) error {
		if number != modelGraph {
			out = append(out, whole...)
			return nil
		}
		graph, err := splitGraph(value)
		out = out.bytes(modelGraph, graph)
		return err
	})
	return out, err
}

func splitGraph(graph []byte) (message, error) {
	const zero Value = "SplitPReLU/zero"
	var out message
	err := fields(graph, func(number protowire.Number, value, whole []byte) error {
		if number != graphNode {
			out = append(out, whole...)
			return nil
		}
		n, err := decodeNode(value)
		if err != nil || n.Op != "PRelu" || len(n.In) != 2 {
			out = append(out, whole...)
			return err
		}
		positive, negative, scaled := n.Out+"/positive", n.Out+"/negative", n.Out+"/scaled"
		for _, part := range []Node{
			{Op: "Relu", In: n.In[:1], Out: positive},
			{Op: "Min", In: []Value{n.In[0], zero}, Out: negative},
			{Op: "Mul", In: []Value{negative, n.In[1]}, Out: scaled},
			{Op: "Add", In: []Value{positive, scaled}, Out: n.Out},
		} {
			out = out.bytes(graphNode, part.encode())
		}
		return nil
	})
	t := tensor.FromF32([]float32{0})
	return out.bytes(graphInitializer, tensorHead(string(zero), t).bytes(tensorRaw, t.Data)), err
}

// decodeNode reads the operator of a node, and the names that go in and out.
func decodeNode(node []byte) (n Node, err error) {
	err = fields(node, func(number protowire.Number, value, _ []byte) error {
		switch number {
		case nodeInput:
			n.In = append(n.In, Value(value))
		case nodeOutput:
			n.Out = Value(value)
		case nodeOp:
			n.Op = string(value)
		}
		return nil
	})
	return n, err
}

// fields calls f with each field of a message: its number, its value if that is text, bytes
// or a message, and all its bytes.
func fields(m []byte, f func(number protowire.Number, value, whole []byte) error) error {
	for len(m) > 0 {
		number, kind, tag := protowire.ConsumeTag(m)
		size := tag
		if tag > 0 {
			size = protowire.ConsumeFieldValue(number, kind, m[tag:])
		}
		if size < 0 {
			return fault.Input.Wrap("read the ONNX model", protowire.ParseError(size))
		}
		whole := m[:tag+size]
		var value []byte
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(whole[tag:])
		}
		if err := f(number, value, whole); err != nil {
			return err
		}
		m = m[len(whole):]
	}
	return nil
}
