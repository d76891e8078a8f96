package models

import (
	"math"
	"strings"
	"unsafe"

	"github.com/lipstream/lipstream/internal/tensor"
)

// narrow converts finite values to the bytes of a type: f32 without copying, others in
// dst. It returns errTooWide if a value does not fit.
func narrow(dst []byte, v []float32, to tensor.DType) ([]byte, error) {
	switch to {
	case tensor.F16:
		if tensor.F32ToF16(dst, v) > 0 {
			return nil, errTooWide
		}
	case tensor.BF16:
		const rounding = 0x7f7f8000 // from here on bfloat16 rounds to infinity
		for _, x := range v {
			if math.Float32bits(x)&^(1<<31) >= rounding {
				return nil, errTooWide
			}
		}
		tensor.F32ToBF16(dst, v)
	default:
		if len(v) == 0 {
			return nil, nil
		}
		return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v)), nil
	}
	return dst[:2*len(v)], nil
}

// isBuffer reports whether a tensor is computed by a formula and not trained: the
// positional encodings of the UNet's motion modules and of Whisper's encoder.
func isBuffer(name string) bool {
	return strings.HasSuffix(name, ".pos_encoder.pe") || name == "encoder.positional_embedding"
}
