package onnx

import (
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lipstream/lipstream/internal/fault"
)

// maxName is how many bytes of a node's name are read.
const maxName = 1024

// errEnough is returned while fields are read to leave them.
var errEnough = errors.New("enough")

// FirstNames returns the names of the first nodes of an encoded model of size bytes, at most n.
// It reads no more of the model than it has to.
func FirstNames(model io.ReaderAt, size int64, n int) (names []string, err error) {
	err = inside(model, 0, size, modelGraph, func(graph field) error {
		return inside(model, graph.from, graph.to, graphNode, func(node field) error {
			if len(names) == n {
				return errEnough
			}
			names = append(names, "")
			return inside(model, node.from, node.to, nodeName, func(name field) error {
				text := make([]byte, min(name.to-name.from, maxName))
				_, err := io.ReadFull(io.NewSectionReader(model, name.from, int64(len(text))), text)
				names[len(names)-1] = string(text)
				return err
			})
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return names, fault.Input.Wrap("read the ONNX model", err)
}

// inside calls do with the fields of one number of a message, which hold text or a message.
func inside(r io.ReaderAt, at, end int64, number protowire.Number, do func(field) error) error {
	return each(r, at, end, func(f field) error {
		if f.number != number || f.wire != protowire.BytesType {
			return nil
		}
		return do(f)
	})
}
