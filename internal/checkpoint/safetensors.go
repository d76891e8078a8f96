package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lipstream/lipstream/internal/tensor"
)

// safetensorsTypes maps the names of element types in the header.
var safetensorsTypes = map[string]tensor.DType{
	"F32": tensor.F32, "F16": tensor.F16, "BF16": tensor.BF16, "I64": tensor.I64, "I32": tensor.I32, "U8": tensor.U8, "I8": tensor.I8,
}

// ScaleSuffix ends the name of the tensor with the scales of an int8 tensor, one for each row
// of the first dimension.
const ScaleSuffix = ".scale"

// headerTensor is one tensor's description in a safetensors header.
type headerTensor struct {
	name    string
	dtype   string
	shape   []int64
	offsets []int64 // first byte and end, counted from the end of the header
}

// readSafetensors reads the header: 8 bytes of length, then JSON, then the
// tensors without gaps (https://github.com/huggingface/safetensors#format).
func (f *File) readSafetensors() error {
	n := binary.LittleEndian.Uint64(f.data)
	if n > maxHeader {
		return fmt.Errorf("the safetensors header claims %d bytes, and at most %d are allowed", n, maxHeader)
	}
	if n > uint64(len(f.data)-safetensorsPlus) {
		return cutOff(len(f.data), fmt.Sprintf("the safetensors header alone needs %d bytes", n+safetensorsPlus))
	}
	begin := safetensorsPlus + int64(n)
	tensors, err := f.readHeader(f.data[safetensorsPlus:begin])
	if err != nil {
		return fmt.Errorf("safetensors header: %w", err)
	}
	return f.place(tensors, begin)
}

// readHeader parses the header and adds the metadata to the scalars.
func (f *File) readHeader(header []byte) (tensors []headerTensor, err error) {
	dec := json.NewDecoder(bytes.NewReader(header))
	err = object(dec, func(key string) error {
		if key == "__metadata__" {
			return object(dec, func(key string) error {
				var s string
				if err := dec.Decode(&s); err != nil {
					return err
				}
				f.scalars[key] = s
				return nil
			})
		}
		if len(tensors) >= maxTensors {
			return fmt.Errorf("more than %d tensors", maxTensors)
		}
		t := headerTensor{name: key}
		err := object(dec, func(field string) error {
			switch field {
			case "dtype":
				return dec.Decode(&t.dtype)
			case "shape":
				return dec.Decode(&t.shape)
			case "data_offsets":
				return dec.Decode(&t.offsets)
			}
			return fmt.Errorf("unknown field %s", quote(field))
		})
		if err == nil && (t.dtype == "" || t.shape == nil || len(t.offsets) != 2) {
			err = errors.New("dtype, shape or the two data_offsets are missing")
		}
		if err != nil {
			return fmt.Errorf("tensor %s: %w", quote(key), err)
		}
		tensors = append(tensors, t)
		return nil
	})
	if err == nil {
		if _, e := dec.Token(); e != io.EOF {
			err = errors.New("data follows the JSON object")
		}
	}
	return tensors, err
}

// object reads a JSON object. It calls value after each key to read the value. A key that
// occurs twice is an error, unlike in json.Unmarshal.
func object(dec *json.Decoder, value func(key string) error) error {
	open, err := dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return fmt.Errorf("%v instead of an object", open)
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return fmt.Errorf("%v instead of a key", token)
		}
		if seen[key] {
			return fmt.Errorf("the key %s occurs twice", quote(key))
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// place checks that the tensors fill the rest of the file without gaps and overlaps, and
// adds them in the order of the header.
func (f *File) place(tensors []headerTensor, begin int64) error {
	length := int64(len(f.data)) - begin
	byOffset := slices.Clone(tensors)
	slices.SortStableFunc(byOffset, func(a, b headerTensor) int { return slices.Compare(a.offsets, b.offsets) })
	end := int64(0)
	for _, t := range byOffset {
		switch from, to := t.offsets[0], t.offsets[1]; {
		case from < 0:
			return fmt.Errorf("tensor %s: its data begins before the data section", quote(t.name))
		case from < end:
			return fmt.Errorf("tensor %s: its data overlaps that of another tensor", quote(t.name))
		case from > end:
			return fmt.Errorf("tensor %s: %d unused bytes before its data", quote(t.name), from-end)
		case to < from:
			return fmt.Errorf("tensor %s: its data ends before it begins", quote(t.name))
		default:
			end = to
		}
	}
	if end > length {
		return cutOff(len(f.data), fmt.Sprintf("the header describes %d bytes of data, and there are %d", end, length))
	}
	if end < length {
		return fmt.Errorf("%d bytes follow the last tensor", length-end)
	}
	for _, t := range tensors {
		dtype, ok := safetensorsTypes[t.dtype]
		if !ok {
			return unsupportedType(t.name, t.dtype)
		}
		if err := f.add(t.name, dtype, t.shape, begin+t.offsets[0], t.offsets[1]-t.offsets[0]); err != nil {
			return err
		}
	}
	return nil
}

// unsupportedType returns the error for an element type that tensor.DType does not have.
func unsupportedType(name, dtype string) error {
	return refuse("convert the weights to float32 or float16",
		"tensor %s has the type %s, which is not supported", quote(name), quote(dtype))
}
