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
	I32
	I8
)

// dtypes has the names and the sizes in bytes of the element types.
var dtypes = [...]struct {
	name string
	size int
}{F32: {"f32", 4}, F16: {"f16", 2}, BF16: {"bf16", 2}, I64: {"i64", 8}, U8: {"u8", 1}, I32: {"i32", 4}, I8: {"i8", 1}}

func (d DType) known() bool { return d > 0 && int(d) < len(dtypes) }

// Size returns the number of bytes of one element, or 0 for an unknown type.
func (d DType) Size() int {
	if !d.known() {
		return 0
	}
	return dtypes[d].size
}

func (d DType) String() string {
	if !d.known() {
		return fmt.Sprintf("dtype(%d)", int(d))
	}
	return dtypes[d].name
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
