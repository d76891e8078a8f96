package backendtest

import (
	"encoding/binary"
	"math"

	"github.com/lipstream/lipstream/internal/tensor"
)

// The suite writes its own small ONNX files, so that it tests the backends only
// and not internal/onnx.

// message is an encoded protocol-buffer message.
type message []byte

func (m message) varint(field int, v int64) message {
	m = binary.AppendUvarint(m, uint64(field)<<3)
	return binary.AppendUvarint(m, uint64(v))
}

func (m message) bytes(field int, b []byte) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|2)
	m = binary.AppendUvarint(m, uint64(len(b)))
	return append(m, b...)
}

func (m message) text(field int, s string) message { return m.bytes(field, []byte(s)) }

// Graph is an ONNX model under construction.
type Graph struct {
	nodes, inits, inputs, outputs []message
}

// onnxTypes are the TensorProto.DataType numbers.
var onnxTypes = map[tensor.DType]int64{tensor.F32: 1, tensor.U8: 2, tensor.I64: 7, tensor.F16: 10, tensor.BF16: 16}

// Node adds an operator.
func (g *Graph) Node(op string, in, out []string, attrs ...Attr) {
	var m message
	for _, s := range in {
		m = m.text(1, s)
	}
	for _, s := range out {
		m = m.text(2, s)
	}
	m = m.text(3, out[0]+"_node").text(4, op)
	for _, a := range attrs {
		m = m.bytes(5, a.encoded)
	}
	g.nodes = append(g.nodes, m)
}

// Attr is an operator's attribute.
type Attr struct{ encoded message }

// Int returns an integer attribute.
func Int(name string, v int64) Attr {
	return Attr{message(nil).text(1, name).varint(3, v).varint(20, 2)}
}

// Const adds an initialiser of float32.
func (g *Graph) Const(name string, v []float32, shape ...int) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	var m message
	for _, d := range shape {
		m = m.varint(1, int64(d))
	}
	g.inits = append(g.inits, m.varint(2, onnxTypes[tensor.F32]).text(8, name).bytes(9, raw))
}

// ExternalConst adds an initialiser of float32 whose bytes are in a file beside
// the model.
func (g *Graph) ExternalConst(name, file string, offset, length string, shape ...int) {
	var m message
	for _, d := range shape {
		m = m.varint(1, int64(d))
	}
	m = m.varint(2, onnxTypes[tensor.F32]).text(8, name)
	for _, kv := range [][2]string{{"location", file}, {"offset", offset}, {"length", length}} {
		m = m.bytes(13, message(nil).text(1, kv[0]).text(2, kv[1]))
	}
	g.inits = append(g.inits, m.varint(14, 1)) // data_location EXTERNAL
}

// Input adds an input; a dimension of -1 is symbolic.
func (g *Graph) Input(name string, d tensor.DType, shape ...int) {
	g.inputs = append(g.inputs, valueInfo(name, d, shape))
}

// Output adds an output.
func (g *Graph) Output(name string, d tensor.DType, shape ...int) {
	g.outputs = append(g.outputs, valueInfo(name, d, shape))
}

func valueInfo(name string, d tensor.DType, shape []int) message {
	var dims message
	for i, n := range shape {
		if n < 0 {
			dims = dims.bytes(1, message(nil).text(2, "d"+string(rune('0'+i))))
		} else {
			dims = dims.bytes(1, message(nil).varint(1, int64(n)))
		}
	}
	typ := message(nil).varint(1, onnxTypes[d]).bytes(2, dims)
	return message(nil).text(1, name).bytes(2, message(nil).bytes(1, typ))
}

// Bytes encodes the model: IR version 8, operator set 17.
func (g *Graph) Bytes() []byte {
	var graph message
	for _, n := range g.nodes {
		graph = graph.bytes(1, n)
	}
	graph = graph.text(2, "g")
	for _, n := range g.inits {
		graph = graph.bytes(5, n)
	}
	for _, n := range g.inputs {
		graph = graph.bytes(11, n)
	}
	for _, n := range g.outputs {
		graph = graph.bytes(12, n)
	}
	opset := message(nil).text(1, "").varint(2, 17)
	return message(nil).varint(1, 8).text(2, "lipstream").bytes(7, graph).bytes(8, opset)
}

// SmokeGraph is the model that backend.Smoke holds as bytes: y = x + x.
func SmokeGraph() []byte {
	var g Graph
	g.Node("Add", []string{"x", "x"}, []string{"y"})
	g.Input("x", tensor.F32, -1)
	g.Output("y", tensor.F32, -1)
	return g.Bytes()
}
