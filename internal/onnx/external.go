package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// kind is a kind of message in onnx.proto3.
type kind int

const (
	inModel kind = iota + 1
	inGraph
	inNode
	inAttribute
	inTensor
	inSparse
	inFunction
	inTraining
)

// holders has the fields of each kind of message that hold tensors, at any depth.
var holders = map[kind]map[protowire.Number]kind{
	inModel:     {7: inGraph, 20: inTraining, 25: inFunction},
	inGraph:     {1: inNode, 5: inTensor, 15: inSparse},
	inNode:      {5: inAttribute},
	inAttribute: {5: inTensor, 6: inGraph, 10: inTensor, 11: inGraph, 22: inSparse, 23: inSparse},
	inSparse:    {1: inTensor, 2: inTensor},
	inFunction:  {7: inNode, 11: inAttribute}, // 11: defaults of attributes
	inTraining:  {1: inGraph, 2: inGraph},
}

// The fields of a tensor whose content is in another file.
const (
	tensorExternal = 13
	tensorLocation = 14
)

// maxDepth bounds how deep graphs may be nested in graphs.
const maxDepth = 64

// errExternal is returned while messages are walked to leave them.
var errExternal = errors.New("external")

// External reports whether a tensor of an encoded model, of size bytes, is stored in another
// file, which the model names. It reads no content of tensors.
func External(model io.ReaderAt, size int64) (bool, error) {
	err := walk(model, 0, size, inModel, 0)
	if errors.Is(err, errExternal) {
		return true, nil
	}
	return false, err
}

// walk reads the message of a kind that lies from byte at up to byte end.
func walk(r io.ReaderAt, at, end int64, in kind, depth int) error {
	if depth > maxDepth {
		return broken(at)
	}
	return each(r, at, end, func(f field) error {
		switch {
		case in == inTensor && f.wire == protowire.VarintType && f.number == tensorLocation && f.value != 0,
			in == inTensor && f.wire == protowire.BytesType && f.number == tensorExternal:
			return errExternal
		case f.wire == protowire.BytesType && holders[in][f.number] != 0:
			return walk(r, f.from, f.to, holders[in][f.number], depth+1)
		}
		return nil
	})
}

// field is a field of an encoded message.
type field struct {
	number   protowire.Number
	wire     protowire.Type
	value    uint64 // of a varint
	from, to int64  // the bytes of the content of any other field
}

func broken(at int64) error {
	return fmt.Errorf("it is not an ONNX model, or it is damaged at byte %d", at)
}

// each calls do with each field of the message that lies from byte at up to byte end. It does
// not read the content of the fields.
func each(r io.ReaderAt, at, end int64, do func(field) error) error {
	var head [2 * binary.MaxVarintLen64]byte
	for at < end {
		n, err := r.ReadAt(head[:min(int64(len(head)), end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		number, wire, tag := protowire.ConsumeTag(head[:n])
		if tag < 0 {
			return broken(at)
		}
		f := field{number: number, wire: wire, from: at + int64(tag)}
		var length uint64
		switch wire {
		case protowire.VarintType, protowire.BytesType:
			v, size := protowire.ConsumeVarint(head[tag:n])
			if size < 0 {
				return broken(at)
			}
			f.from += int64(size)
			if wire == protowire.BytesType {
				length = v
			} else {
				f.value = v
			}
		case protowire.Fixed32Type:
			length = 4
		case protowire.Fixed64Type:
			length = 8
		default:
			return broken(at)
		}
		if length > uint64(end-f.from) {
			return broken(at)
		}
		f.to = f.from + int64(length)
		if err := do(f); err != nil {
			return err
		}
		at = f.to
	}
	return nil
}
