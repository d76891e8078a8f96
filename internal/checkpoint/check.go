package checkpoint

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/lipstream/lipstream/internal/fault"
	"github.com/lipstream/lipstream/internal/tensor"
)

// Want describes a tensor that a network expects.
type Want struct {
	Name     string
	Shape    []int
	Aliases  []string // older names of the same tensor
	AnyShape [][]int  // other shapes of the same volume that files may have
}

// fits reports whether a tensor of the given shape can be used.
func (w *Want) fits(shape []int) bool {
	return slices.Equal(shape, w.Shape) ||
		slices.ContainsFunc(w.AnyShape, func(s []int) bool { return slices.Equal(s, shape) })
}

// lookup returns the tensor of the current name of w or, if that does not exist, of the
// first alias that does; name is "" if there is none.
func (f *File) lookup(w *Want) (name string, e entry) {
	for _, name := range append([]string{w.Name}, w.Aliases...) {
		if e, ok := f.entries[name]; ok {
			return name, e
		}
	}
	return "", entry{}
}

// Find returns the wanted tensor and its name in the file: the current name or, if that
// does not exist, the first alias that does. A tensor with one of the other shapes is
// returned in w.Shape. Find returns nil if the file has no such tensor or one with the
// wrong shape.
func (f *File) Find(w Want) (name string, t *tensor.Tensor) {
	name, e := f.lookup(&w)
	if name == "" || !w.fits(e.shape) || tensor.Volume(w.Shape) != tensor.Volume(e.shape) {
		return name, nil
	}
	if t = f.Tensor(name); t != nil {
		t.Shape = slices.Clone(w.Shape)
	}
	return name, t
}

// Mismatch describes how a checkpoint differs from what a network expects. All lists are
// sorted and begin with the names of the tensors.
type Mismatch struct {
	Network    string
	Missing    []string // expected, not in the file
	Unexpected []string // in the file, not expected
	Misshapen  []string // with the shape in the file and the expected one
	BadType    []string // with the type, which is no float
}

// Error returns the counts and the first names of each kind.
func (m *Mismatch) Error() string {
	const most = 3
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{
		{"missing", m.Missing}, {"unexpected", m.Unexpected}, {"of the wrong shape", m.Misshapen}, {"not floating-point", m.BadType},
	} {
		n, names := len(p.names), p.names
		if n > most {
			names = append(slices.Clone(names[:most]), "...")
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", n, p.what, strings.Join(names, ", ")))
		}
	}
	return "the tensors are not those of " + m.Network + ": " + strings.Join(parts, ", ")
}

// hint returns what to do about m. found is how many tensors are as expected.
func (m *Mismatch) hint(found int) string {
	switch {
	case found == 0:
		return "this file belongs to another network: check which checkpoint was given for " + m.Network
	case len(m.Missing) > 0 || len(m.Misshapen) > 0:
		return "use a checkpoint made for this version of " + m.Network
	case len(m.BadType) > 0:
		return "use the checkpoint with float32 or float16 weights"
	}
	return "use a checkpoint with the weights of " + m.Network + " alone"
}

// scaled reports whether the named tensor is int8 and has scales.
func (f *File) scaled(name string) bool {
	e, s := f.entries[name], f.entries[name+ScaleSuffix]
	return e.dtype == tensor.I8 && s.dtype == tensor.F32 && len(e.shape) > 0 && slices.Equal(s.shape, e.shape[:1])
}

// Check compares the file with what a network expects: names, shapes, and elements that
// are floats, or int8 with scales. The error is of kind Input and its cause is a *Mismatch. allow reports
// which unexpected names are allowed; nil allows none.
func (f *File) Check(network string, want []Want, allow func(name string) bool) error {
	m := &Mismatch{Network: network}
	known := make(map[string]bool, len(want))
	found := 0
	for i := range want {
		w := &want[i]
		name, e := f.lookup(w)
		known[name] = name != ""
		switch {
		case name == "":
			m.Missing = append(m.Missing, w.Name)
		case !w.fits(e.shape):
			m.Misshapen = append(m.Misshapen, fmt.Sprintf("%s %v instead of %v", name, e.shape, w.Shape))
		case exponents[e.dtype] == 0 && !f.scaled(name): // no floats
			m.BadType = append(m.BadType, fmt.Sprintf("%s %v", name, e.dtype))
		default:
			found++
		}
	}
	for _, name := range f.names {
		if base, ok := strings.CutSuffix(name, ScaleSuffix); ok && f.scaled(base) {
			continue
		}
		if !known[name] && (allow == nil || !allow(name)) {
			m.Unexpected = append(m.Unexpected, printable(name))
		}
	}
	if len(m.Missing)+len(m.Unexpected)+len(m.Misshapen)+len(m.BadType) == 0 {
		return nil
	}
	for _, list := range [][]string{m.Missing, m.Unexpected, m.Misshapen, m.BadType} {
		slices.Sort(list)
	}
	return fault.Input.Wrap("check the checkpoint "+f.path, m, m.hint(found))
}

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
