package onnx

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// toDims are the fields of onnx.proto3 that lead from a model to the dimensions of its inputs
// and outputs: graph, input or output, type, tensor type, shape, dimension.
var toDims = [][]protowire.Number{{modelGraph}, {11, 12}, {2}, {1}, {2}, {1}}

const (
	dimValue = 1
	dimParam = 2
)

// FixDim returns a copy of an encoded model in which a dimension of the inputs and outputs
// that has only a name has a size. A runtime computes a model whose shapes are all known with
// less work.
func FixDim(model []byte, name string, size int64) ([]byte, error) {
	return rewrite(model, toDims, func(dim []byte) (message, error) {
		out := message(dim)
		err := fields(dim, func(number protowire.Number, value, _ []byte) error {
			if number == dimParam && string(value) == name {
				out = message(nil).varint(dimValue, size)
			}
			return nil
		})
		return out, err
	})
}

// rewrite returns a copy of a message in which f has replaced the fields that a path leads to.
func rewrite(m []byte, path [][]protowire.Number, f func([]byte) (message, error)) (message, error) {
	if len(path) == 0 {
		return f(m)
	}
	var out message
	err := fields(m, func(number protowire.Number, value, whole []byte) error {
		if !slices.Contains(path[0], number) {
			out = append(out, whole...)
			return nil
		}
		inner, err := rewrite(value, path[1:], f)
		out = out.bytes(int(number), inner)
		return err
	})
	return out, err
}
