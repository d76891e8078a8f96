package tensor

import "math"

// Scale returns the factor with which Quantize represents the values: the largest becomes
// 127.
func Scale(v []float32) float32 {
	var most float32
	for _, x := range v {
		most = max(most, float32(math.Abs(float64(x))))
	}
	return most / 127
}

// Quantize writes v/scale as int8 to dst, which has as many bytes as v has values. A scale
// of 0 stands for values that are all 0.
func Quantize(dst []byte, v []float32, scale float32) {
	if scale == 0 {
		clear(dst[:len(v)])
		return
	}
	for i, x := range v {
		dst[i] = byte(int8(math.RoundToEven(float64(min(max(x/scale, -127), 127)))))
	}
}

// Dequantize multiplies each of the rows of t, which are int8, with its scale.
func Dequantize(t, scales *Tensor) *Tensor {
	out := t.ToF32()
	v, s := out.F32(), scales.F32()
	width := len(v) / max(len(s), 1)
	for i := range v {
		v[i] *= s[i/width]
	}
	return out
}
