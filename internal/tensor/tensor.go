// Package tensor holds dense row-major tensors as they pass between Go and the
// inference backends.
package tensor

import (
	"fmt"
	"unsafe"
)

// DType is an element type.
type DType int

// The element types that checkpoints and graphs use.
const (
	F32 DType = iota + 1
	F16
	BF16
	I64
	U8
)

// Size returns the number of bytes of one element.
func (d DType) Size() int {
	switch d {
	case F32:
		return 4
	case F16, BF16:
		return 2
	case I64:
		return 8
	case U8:
		return 1
	}
	return 0
}

func (d DType) String() string {
	switch d {
	case F32:
		return "f32"
	case F16:
		return "f16"
	case BF16:
		return "bf16"
	case I64:
		return "i64"
	case U8:
		return "u8"
	}
	return fmt.Sprintf("dtype(%d)", int(d))
}

// Tensor is a dense row-major tensor. Data has Len()·DType.Size() bytes in the
// machine's byte order and is aligned for its element type.
type Tensor struct {
	DType DType
	Shape []int
	Data  []byte
}

// New returns a tensor of zeros.
func New(d DType, shape ...int) *Tensor {
	n := Volume(shape) * d.Size()
	// []uint64 gives 8-byte alignment, which []byte does not promise.
	words := make([]uint64, (n+7)/8)
	t := &Tensor{DType: d, Shape: shape}
	if n > 0 {
		t.Data = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n)
	}
	return t
}

// FromF32 wraps v, without a copy, as a tensor of the given shape; the shape's
// volume must be len(v).
func FromF32(v []float32, shape ...int) *Tensor {
	if Volume(shape) != len(v) {
		panic(fmt.Sprintf("tensor: %d values for shape %v", len(v), shape))
	}
	t := &Tensor{DType: F32, Shape: shape}
	if len(v) > 0 {
		t.Data = unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
	}
	return t
}

// NotFinite returns the index of the first NaN or infinity of v, or -1.
func NotFinite(v []float32) int {
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}

// Volume returns the product of the dimensions; 1 for a scalar.
func Volume(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Len returns the number of elements.
func (t *Tensor) Len() int { return Volume(t.Shape) }

// F32 views the data as float32, without a copy. It panics for another type.
func (t *Tensor) F32() []float32 {
	if t.DType != F32 {
		panic("tensor: F32 view of " + t.DType.String())
	}
	if len(t.Data) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&t.Data[0])), len(t.Data)/4)
}
