// Package onnx builds ONNX models. It encodes only the structure of the graph. Weights
// stay in the caller's memory, often a mapped checkpoint.
package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/lipstream/lipstream/internal/tensor"
)

// The versions of the encoded models. Operator set 20 is the first with Gelu.
const (
	irVersion = 9
	opset     = 20
)

// Microsoft is the domain of ONNX Runtime's own operators.
const Microsoft = "com.microsoft"

// Value is the name of a tensor in a graph.
type Value string

// Graph is a model under construction. The zero value is not usable; see New.
type Graph struct {
	Nodes []Node // in the order in which they compute

	name            string
	inputs, outputs []message
	inNames         []string
	outNames        []string
	constants       []message
	weights         []Weight
	feeds           []Weight
	known           map[string]Value // constants and weights by content and name
	n               int
	given           map[Value]tensorInfo // inputs, constants and weights
}

// Weight is a tensor of the model in the caller's memory. If it is mapped from a file, File
// and Offset are its place there, because some runtimes map it themselves.
type Weight struct {
	Name string
	*tensor.Tensor
	File   string // absolute; "" for plain memory
	Offset int64
}

// New returns an empty graph. The name is for messages.
func New(name string) *Graph {
	return &Graph{name: name, known: map[string]Value{}, given: map[Value]tensorInfo{}}
}

// Name returns the name of the graph.
func (g *Graph) Name() string { return g.name }

// InputNames returns the names of the inputs, in order.
func (g *Graph) InputNames() []string { return g.inNames }

// Reads reports whether the graph has an input of that name.
func (g *Graph) Reads(name string) bool { return slices.Contains(g.inNames, name) }

// OutputNames returns the names of the outputs, in order.
func (g *Graph) OutputNames() []string { return g.outNames }

// Weights returns the tensors that Encode leaves out.
func (g *Graph) Weights() []Weight { return g.weights }

// WeightBytes returns the size of all weights.
func (g *Graph) WeightBytes() int64 {
	var n int64
	for _, w := range g.weights {
		n += int64(len(w.Data))
	}
	return n
}

// Feeds returns the tensors of Feed.
func (g *Graph) Feeds() []Weight { return g.feeds }

// Node is an operator in a graph. It has one output.
type Node struct {
	Domain, Op string
	In         []Value // "" is an optional input that is left out
	Out        Value
	Attrs      []Attr
}

func (n Node) encode() message {
	var m message
	for _, v := range n.In {
		m = m.text(1, string(v))
	}
	m = m.text(2, string(n.Out)).text(3, string(n.Out)).text(4, n.Op)
	for _, a := range n.Attrs {
		m = m.bytes(5, a.encode())
	}
	if n.Domain != "" {
		m = m.text(7, n.Domain)
	}
	return m
}

// Attr is an attribute of an operator.
type Attr struct {
	Name  string
	Value any // int64, float32, string or []int64
}

func (a Attr) encode() message {
	m := message(nil).text(1, a.Name)
	switch v := a.Value.(type) {
	case int64:
		m = m.varint(3, v).varint(20, 2)
	case float32:
		m = m.fixed32(2, math.Float32bits(v)).varint(20, 1)
	case string:
		m = m.text(4, v).varint(20, 3)
	case []int64:
		for _, x := range v {
			m = m.varint(8, x)
		}
		m = m.varint(20, 7)
	}
	return m
}

// Int returns an integer attribute.
func Int(name string, v int64) Attr { return Attr{name, v} }

// Float returns an attribute of one number.
func Float(name string, v float32) Attr { return Attr{name, v} }

// String returns a text attribute.
func String(name, v string) Attr { return Attr{name, v} }

// Ints returns an attribute of several integers.
func Ints(name string, v ...int64) Attr { return Attr{name, v} }

// Op adds an operator of ONNX's own domain with one output.
func (g *Graph) Op(op string, in []Value, attrs ...Attr) Value {
	return g.OpIn("", op, in, attrs...)
}

// OpIn adds an operator of the given domain with one output. An empty Value in in stands
// for an optional input that is left out.
func (g *Graph) OpIn(domain, op string, in []Value, attrs ...Attr) Value {
	g.n++
	out := Value(op + "_" + strconv.Itoa(g.n))
	g.Nodes = append(g.Nodes, Node{domain, op, in, out, attrs})
	return out
}

// Input adds an input; a dimension of -1 is free.
func (g *Graph) Input(name string, d tensor.DType, shape ...int) Value {
	g.inputs = append(g.inputs, valueInfo(name, d, shape))
	g.inNames = append(g.inNames, name)
	g.given[Value(name)] = tensorInfo{dtype: d, shape: shape}
	return Value(name)
}

// Output makes v an output under the given name; a dimension of -1 is free.
func (g *Graph) Output(name string, v Value, d tensor.DType, shape ...int) {
	g.Nodes = append(g.Nodes, Node{Op: "Identity", In: []Value{v}, Out: Value(name)})
	g.outputs = append(g.outputs, valueInfo(name, d, shape))
	g.outNames = append(g.outNames, name)
}

// Floats adds a constant of float32 to the model itself.
func (g *Graph) Floats(v []float32, shape ...int) Value {
	return g.constant(tensor.FromF32(v, shape...))
}

// Scalar adds a constant of one float32.
func (g *Graph) Scalar(v float32) Value { return g.Floats([]float32{v}) }

// Ints adds a constant vector of int64, for shapes and axes.
func (g *Graph) Ints(v ...int64) Value {
	t := tensor.New(tensor.I64, len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(t.Data[8*i:], uint64(x))
	}
	return g.constant(t)
}

// constant adds t to the model itself, once for equal content.
func (g *Graph) constant(t *tensor.Tensor) Value {
	key := fmt.Sprint(t.DType, t.Shape, string(t.Data))
	if v, ok := g.known[key]; ok {
		return v
	}
	v := Value("const_" + strconv.Itoa(len(g.constants)))
	g.known[key] = v
	g.constants = append(g.constants, tensorHead(string(v), t).bytes(tensorRaw, t.Data))
	g.given[v] = tensorInfo{t.DType, t.Shape, t, true}
	return v
}

// Weight adds a tensor that stays in the caller's memory, which must stay valid as long as
// sessions of this graph. The same name again returns the same value.
func (g *Graph) Weight(w Weight) Value {
	key := "weight " + w.Name
	if v, ok := g.known[key]; ok {
		return v
	}
	g.known[key] = Value(w.Name)
	g.weights = append(g.weights, w)
	g.given[Value(w.Name)] = tensorInfo{w.DType, w.Shape, w.Tensor, true}
	return Value(w.Name)
}

// Feed adds a tensor that the caller passes with each run, as an input of that name that
// InputNames does not list. A runtime can neither copy nor convert it when it compiles the
// graph. The input is flat and says nothing of its length, because OpenVINO holds memory for
// each input whose length it knows. The same name again returns the same value.
func (g *Graph) Feed(w Weight) Value {
	key := "weight " + w.Name
	if v, ok := g.known[key]; ok {
		return v
	}
	var shape []int64
	for _, d := range w.Shape {
		shape = append(shape, int64(d))
	}
	w.Tensor = &tensor.Tensor{DType: w.DType, Shape: []int{tensor.Volume(w.Shape)}, Data: w.Data}
	g.feeds = append(g.feeds, w)
	g.inputs = append(g.inputs, valueInfo(w.Name, w.DType, []int{-1}))
	g.given[Value(w.Name)] = tensorInfo{dtype: w.DType, shape: w.Tensor.Shape}
	g.known[key] = g.Op("Reshape", []Value{Value(w.Name), g.Ints(shape...)})
	return g.known[key]
}

// types maps element types to TensorProto.DataType.
var types = map[tensor.DType]int64{tensor.F32: 1, tensor.U8: 2, tensor.I8: 3, tensor.I64: 7, tensor.F16: 10, tensor.BF16: 16}

// Cast converts v to d.
func (g *Graph) Cast(v Value, d tensor.DType) Value {
	return g.Op("Cast", []Value{v}, Int("to", types[d]))
}

// tensorRaw is the field raw_data of TensorProto.
const tensorRaw = 9

func tensorHead(name string, t *tensor.Tensor) message {
	var m message
	for _, d := range t.Shape {
		m = m.varint(1, int64(d))
	}
	return m.varint(2, types[t.DType]).text(8, name)
}

func valueInfo(name string, d tensor.DType, shape []int) message {
	var dims message
	for i, n := range shape {
		if n < 0 {
			dims = dims.bytes(1, message(nil).text(2, name+"_"+strconv.Itoa(i)))
		} else {
			dims = dims.bytes(1, message(nil).varint(1, int64(n)))
		}
	}
	typ := message(nil).varint(1, types[d]).bytes(2, dims)
	return message(nil).text(1, name).bytes(2, message(nil).bytes(1, typ))
}

// Place returns where the bytes of a weight are, as for ONNX's external data: a location
// and the offset of the tensor in it.
type Place func(Weight) (location string, offset uint64)

// Encode returns the bytes of the model, without its weights.
func (g *Graph) Encode(place Place) []byte {
	var graph message
	microsoft := false
	for _, n := range g.Nodes {
		graph = graph.bytes(1, n.encode())
		microsoft = microsoft || n.Domain == Microsoft
	}
	graph = graph.text(2, g.name)
	for _, c := range g.constants {
		graph = graph.bytes(5, c)
	}
	for _, w := range g.weights {
		location, offset := place(w)
		m := tensorHead(w.Name, w.Tensor)
		for _, kv := range [][2]string{
			{"location", location},
			{"offset", strconv.FormatUint(offset, 10)},
			{"length", strconv.Itoa(len(w.Data))},
		} {
			m = m.bytes(13, message(nil).text(1, kv[0]).text(2, kv[1]))
		}
		graph = graph.bytes(5, m.varint(14, 1)) // data_location EXTERNAL
	}
	for _, in := range g.inputs {
		graph = graph.bytes(11, in)
	}
	for _, out := range g.outputs {
		graph = graph.bytes(12, out)
	}
	model := message(nil).varint(1, irVersion).text(2, "lipstream").bytes(7, graph)
	model = model.bytes(8, message(nil).text(1, "").varint(2, opset))
	if microsoft {
		model = model.bytes(8, message(nil).text(1, Microsoft).varint(2, 1))
	}
	return model
}

// message is an encoded protocol-buffer message. The field numbers in this
// package are those of onnx.proto3.
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

func (m message) fixed32(field int, v uint32) message {
	m = binary.AppendUvarint(m, uint64(field)<<3|5)
	return binary.LittleEndian.AppendUint32(m, v)
}
