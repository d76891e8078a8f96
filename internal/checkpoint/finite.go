package checkpoint

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// scanBytes is how many bytes Finite checks between two checks of the context. It is a
// multiple of the size of every element.
const scanBytes = 8 << 20

// Finite checks that the named tensors, or all if there are no names, contain no NaN or
// infinity. It ignores tensors of integers. progress may be nil. Finite releases what it
// has checked (see Release), so that the file does not fill the memory.
//
// The error is of kind Input for the first bad tensor, with how many of its values are
// bad and the index of the first; Cancelled when ctx ends; Internal for an unknown name
// or a closed file.
func (f *File) Finite(ctx context.Context, progress func(done, total int64), names ...string) error {
	const op = "check the values of"
	if len(names) == 0 {
		names = f.names
	}
	var total, done int64
	for _, name := range names {
		e, ok := f.entries[name]
		if !ok {
			return fault.Internal.New(op+" "+f.path, "it has no tensor "+quote(name))
		}
		total += e.size
	}
	if progress == nil {
		progress = func(done, total int64) {}
	}
	for _, name := range names {
		e := f.entries[name]
		bad, first := int64(0), int64(-1)
		for at := int64(0); at < e.size; at += scanBytes {
			if err := ctx.Err(); err != nil {
				return fault.Cancelled.Wrap(op+" "+f.path, err)
			}
			n := min(scanBytes, e.size-at)
			count, index, err := f.scan(e.dtype, e.offset+at, n)
			if err != nil {
				return fault.Internal.Wrap(op+" "+f.path, err)
			}
			if count > 0 && bad == 0 {
				first = at/int64(e.dtype.Size()) + index
			}
			bad += count
			done += n
			progress(done, total)
		}
		if bad > 0 {
			return fault.Input.New(op+" "+f.path, fmt.Sprintf("tensor %s has %d values that are not finite, the first at index %d of %d", quote(name), bad, first, e.size/int64(e.dtype.Size())),
				"the checkpoint is damaged, or its training failed: download it again or use another")
		}
	}
	return nil
}

// scan counts the values that are not finite in n bytes of the file, returns the index of
// the first, and releases the pages.
func (f *File) scan(dtype tensor.DType, offset, n int64) (bad, first int64, err error) {
	f.mu.Lock() // Close waits until the piece is done
	defer f.mu.Unlock()
	if f.data == nil {
		return 0, 0, fmt.Errorf("it is closed")
	}
	bad, first = notFinite(dtype, f.data[offset:offset+n])
	f.release(offset, offset+n)
	return bad, first, nil
}

// exponents are the bits of the exponent in the types of floats.
var exponents = map[tensor.DType]uint32{tensor.F32: 0x7f800000, tensor.F16: 0x7c00, tensor.BF16: 0x7f80}

// notFinite counts values whose exponent is all ones, and returns the index of the first.
// It needs no alignment.
func notFinite(dtype tensor.DType, b []byte) (count, first int64) {
	exponent, width := exponents[dtype], dtype.Size()
	if exponent == 0 {
		return 0, 0
	}
	for i := 0; i+width <= len(b); i += width {
		var v uint32
		if width == 4 {
			v = binary.LittleEndian.Uint32(b[i:])
		} else {
			v = uint32(binary.LittleEndian.Uint16(b[i:]))
		}
		if v&exponent == exponent {
			if count++; count == 1 {
				first = int64(i / width)
			}
		}
	}
	return count, first
}
