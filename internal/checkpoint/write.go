package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/tensor"
)

// Spec describes a tensor to write.
type Spec struct {
	Name  string
	DType tensor.DType
	Shape []int
}

// Size returns the length of the tensor in bytes.
func (s *Spec) Size() int64 { return int64(tensor.Volume(s.Shape)) * int64(s.DType.Size()) }

// checkSpecs returns an error for tensors that this package could not read.
func checkSpecs(specs []Spec) error {
	if len(specs) == 0 || len(specs) > maxTensors {
		return fmt.Errorf("checkpoint: %d tensors are not between 1 and %d", len(specs), maxTensors)
	}
	seen := make(map[string]bool, len(specs))
	for _, s := range specs {
		if s.DType.Size() == 0 {
			return fmt.Errorf("checkpoint: tensor %s has an unknown type (%v)", quote(s.Name), s.DType)
		}
		dims := make([]int64, len(s.Shape))
		for i, d := range s.Shape {
			dims[i] = int64(d)
		}
		if _, _, err := checkShape(dims); err != nil {
			return fmt.Errorf("checkpoint: tensor %s: %w", quote(s.Name), err)
		}
		if s.Name == "" || len(s.Name) > maxKey || !utf8.ValidString(s.Name) {
			return fmt.Errorf("checkpoint: %s cannot be the name of a tensor: it must have 1 to %d bytes of UTF-8", quote(s.Name), maxKey)
		}
		if seen[s.Name] {
			return fmt.Errorf("checkpoint: tensor %s occurs twice", quote(s.Name))
		}
		seen[s.Name] = true
	}
	return nil
}

// exactly is a writer that accepts no more than left bytes.
type exactly struct {
	w    io.Writer
	left int64
}

var errTooMuch = errors.New("more bytes were written than its shape has")

func (e *exactly) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, errTooMuch
	}
	n, err := e.w.Write(p)
	e.left -= int64(n)
	return n, err
}

// writeTensor calls fill to write the i-th tensor and checks its length.
func writeTensor(w io.Writer, s *Spec, i int, fill func(i int, w io.Writer) error) error {
	e := &exactly{w, s.Size()}
	if err := fill(i, e); err != nil {
		return fmt.Errorf("tensor %s: %w", quote(s.Name), err)
	}
	if e.left != 0 {
		return fmt.Errorf("tensor %s: %d bytes are missing of its shape", quote(s.Name), e.left)
	}
	return nil
}

// WriteSafetensors writes a safetensors file to w, in one pass. meta becomes __metadata__.
// fill writes the bytes of the i-th tensor of specs, row-major and little-endian. It is
// called once for each, in the order of the data: that of specs, but types with larger
// elements first, so that all tensors are aligned. The memory used does not depend on the
// size of the tensors.
func WriteSafetensors(w io.Writer, meta map[string]string, specs []Spec, fill func(i int, w io.Writer) error) error {
	if err := checkSpecs(specs); err != nil {
		return err
	}
	order := make([]int, len(specs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return specs[b].DType.Size() - specs[a].DType.Size() })
	header, err := safetensorsHeader(meta, specs, order)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, i := range order {
		if err := writeTensor(w, &specs[i], i, fill); err != nil {
			return err
		}
	}
	return nil
}

// safetensorsHeader returns the length and the JSON, padded so that the data after it is
// aligned to 8 bytes.
func safetensorsHeader(meta map[string]string, specs []Spec, order []int) ([]byte, error) {
	b := make([]byte, safetensorsPlus, 1<<16)
	separator := byte('{')
	member := func(key string, value any) {
		k, _ := json.Marshal(key) // strings and numbers cannot fail
		v, _ := json.Marshal(value)
		b = append(append(append(append(b, separator), k...), ':'), v...)
		separator = ','
	}
	if len(meta) > 0 {
		member("__metadata__", meta)
	}
	offset := int64(0)
	for _, i := range order {
		s := &specs[i]
		if s.Name == "__metadata__" {
			return nil, errors.New("checkpoint: a tensor cannot have the name __metadata__")
		}
		member(s.Name, struct {
			DType   string   `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{strings.ToUpper(s.DType.String()), append([]int{}, s.Shape...), [2]int64{offset, offset + s.Size()}})
		offset += s.Size()
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	n := len(b) - safetensorsPlus
	if n > maxHeader {
		return nil, fmt.Errorf("checkpoint: the header has %d bytes, and at most %d are possible", n, maxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(n))
	return b, nil
}
