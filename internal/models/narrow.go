package models

import (
	"strings"

	"github.com/lipstream/lipstream/internal/tensor"
)

// narrow converts finite values to the bytes of a type: f32 without copying, others in
// dst. It returns errTooWide if a value does not fit.
func narrow(dst []byte, v []float32, to tensor.DType) ([]byte, error) {
	overflows := 0
	switch to {
	case tensor.F16:
		overflows = tensor.F32ToF16(dst, v)
	case tensor.BF16:
		overflows = tensor.F32ToBF16(dst, v)
	default:
		return tensor.FromF32(v, len(v)).Data, nil
	}
	if overflows > 0 {
		return nil, errTooWide
	}
	return dst[:2*len(v)], nil
}

// isBuffer reports whether a tensor is computed by a formula and not trained: the
// positional encodings of the UNet's motion modules and of Whisper's encoder.
func isBuffer(name string) bool {
	return strings.HasSuffix(name, ".pos_encoder.pe") || name == "encoder.positional_embedding"
}
