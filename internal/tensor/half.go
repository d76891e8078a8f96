package tensor

import (
	"encoding/binary"
	"math"
)

// Bit patterns of float32 magnitudes that the conversions compare with.
const (
	f32Inf       = 0x7f800000
	f32Half16Max = 0x477ff000 // 65520: from here on float16 rounds to infinity
	f32Half16Min = 113 << 23  // 2^-14, the least normal float16
)

// F16ToF32 converts len(dst) IEEE 754 binary16 values, little-endian in src
// (2 bytes each), exactly. NaNs keep their sign and payload.
func F16ToF32(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		h := uint32(binary.LittleEndian.Uint16(src[2*i:]))
		sign, bits := h&0x8000<<16, h&0x7fff<<13
		switch {
		case bits >= 0x7c00<<13: // infinity, NaN
			bits += (255 - 31) << 23
		case bits >= 0x0400<<13: // normal: only the exponent's bias differs
			bits += (127 - 15) << 23
		default:
			// Subnormal m·2^-24: m lands behind the leading one of 2^-14,
			// which is then subtracted.
			f := math.Float32frombits(bits+f32Half16Min) - math.Float32frombits(f32Half16Min)
			bits = math.Float32bits(f)
		}
		dst[i] = math.Float32frombits(sign | bits)
	}
}

// F32ToF16 converts src to IEEE 754 binary16, little-endian in dst (2 bytes
// each), rounding to nearest, ties to even, with subnormals. It returns the
// number of finite values that became infinite (from ±65520 on). NaNs keep
// their sign and as much of the payload as fits.
func F32ToF16(dst []byte, src []float32) (overflows int) {
	dst = dst[:2*len(src)]
	for i, v := range src {
		b := math.Float32bits(v)
		sign, bits := b>>16&0x8000, b&0x7fffffff
		var h uint32
		switch {
		case bits > f32Inf: // NaN: must not become infinity
			if h = 0x7c00 | bits>>13&0x3ff; h == 0x7c00 {
				h = 0x7e00
			}
		case bits >= f32Half16Max:
			h = 0x7c00
			if bits != f32Inf {
				overflows++
			}
		case bits >= f32Half16Min:
			h = (bits - (127-15)<<23 + 0xfff + bits>>13&1) >> 13
		default:
			// Added to 0.5 the value's last kept bit is worth 2^-24, float16's
			// subnormal step: the addition rounds.
			h = math.Float32bits(math.Float32frombits(bits)+0.5) - math.Float32bits(0.5)
		}
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(sign|h))
	}
	return overflows
}

// BF16ToF32 converts len(dst) bfloat16 values, little-endian in src (2 bytes
// each), exactly.
func BF16ToF32(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

// F32ToBF16 converts src to bfloat16, little-endian in dst (2 bytes each),
// rounding to nearest, ties to even. It returns the number of finite values that
// became infinite (beyond bfloat16's largest, 3.39e38).
func F32ToBF16(dst []byte, src []float32) (overflows int) {
	dst = dst[:2*len(src)]
	for i, v := range src {
		b := math.Float32bits(v)
		h := (b + 0x7fff + b>>16&1) >> 16
		if b&0x7fffffff > f32Inf { // NaN: rounding could carry it to infinity
			if h = b >> 16; h&0x7f == 0 {
				h |= 0x40
			}
		} else if h&0x7fff == f32Inf>>16 && b&0x7fffffff < f32Inf {
			overflows++
		}
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(h))
	}
	return overflows
}

// ToF32 returns t with its values as float32: t itself where it is F32 already,
// otherwise a copy. Values of integers beyond 2^24 are rounded.
func (t *Tensor) ToF32() *Tensor {
	if t.DType == F32 {
		return t
	}
	out := New(F32, append([]int(nil), t.Shape...)...)
	dst := out.F32()
	switch t.DType {
	case F16:
		F16ToF32(dst, t.Data)
	case BF16:
		BF16ToF32(dst, t.Data)
	case I64:
		for i := range dst {
			dst[i] = float32(int64(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(t.Data[i])
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(t.Data[i]))
		}
	default:
		panic("tensor: ToF32 of " + t.DType.String())
	}
	return out
}
