package journal

import (
	"errors"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/lipstream/lipstream/internal/tensor"
)

// split returns the bytes of numbers in planes, the lowest bytes first, and the bytes of
// each number: 2 if all have the same value in float16, else 4. Similar numbers differ in
// their low bytes, so that only the planes with the high bytes can be compressed.
func split(numbers []float32) (planes []byte, width int) {
	n := len(numbers)
	plain := make([]byte, 2*n)
	if same := make([]float32, n); tensor.F32ToF16(plain, numbers) == 0 {
		tensor.F16ToF32(same, plain)
		if equalBits(numbers, same) {
			return shuffle(plain, 2), 2
		}
	}
	plain = plain[:0]
	for _, v := range numbers {
		plain = order.AppendUint32(plain, math.Float32bits(v))
	}
	return shuffle(plain, 4), 4
}

// join is the inverse of split.
func join(planes []byte, width int) ([]float32, error) {
	if width != 2 && width != 4 || len(planes)%width != 0 {
		return nil, errors.New("not the bytes of numbers")
	}
	plain := make([]byte, len(planes))
	n := len(planes) / width
	for i := range plain {
		plain[i] = planes[i%width*n+i/width]
	}
	numbers := make([]float32, n)
	if width == 2 {
		tensor.F16ToF32(numbers, plain)
		return numbers, nil
	}
	for i := range numbers {
		numbers[i] = math.Float32frombits(order.Uint32(plain[4*i:]))
	}
	return numbers, nil
}

func shuffle(plain []byte, width int) []byte {
	planes := make([]byte, len(plain))
	n := len(plain) / width
	for i, b := range plain {
		planes[i%width*n+i/width] = b
	}
	return planes
}

func equalBits(a, b []float32) bool {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

// One encoder and one decoder serve all journals. With these options, making them cannot
// fail.
var (
	compressor = sync.OnceValue(func() *zstd.Encoder {
		e, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithAllLitEntropyCompression(true))
		return e
	})
	decompressor = sync.OnceValue(func() *zstd.Decoder {
		d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRecord))
		return d
	})
)
