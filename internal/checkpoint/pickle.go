package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/lipstream/lipstream/internal/tensor"
)

// The values of a pickle, in addition to nil, bool, int64, float64 and string.
type (
	tuple []any
	list  struct{ items []any }
	dict  struct {
		keys   []any // string, int64, float64 or bool
		values map[any]any
	}
	bytesValue []byte
	// global is a class or function by its full name. findGlobal only creates the
	// allowed ones, and only reduce interprets them.
	global string
	// storage is a persistent id: the bytes that tensors are views of.
	storage struct {
		class global // "torch.FloatStorage"
		key   string // of the member data/<key>
		numel int64
	}
	// view is a tensor as the pickle describes it. It is checked when it is used.
	view struct {
		storage      *storage
		offset       int64 // in elements
		size, stride tuple
	}
)

// unpickler executes pickles: the opcodes of protocol 2, and those of 3 to 5 with which
// the same data can be written.
type unpickler struct {
	in    []byte
	pos   int
	err   error // the first; after it, what is read or popped is meaningless
	stack []any
	marks []int // positions of marks on the stack
	memo  map[uint64]any
	views int
}

var (
	errPickleEnd   = errors.New("ends in the middle")
	errPickleStack = errors.New("takes more values from the stack than it has")
	errNoContainer = errors.New("adds items to something that is neither list nor dict")
)

// unpickle reads one pickle and returns its value.
func unpickle(in []byte) (any, error) {
	u := &unpickler{in: in, memo: map[uint64]any{}}
	for range maxOps {
		if u.pos == len(in) {
			return nil, errPickleEnd
		}
		at, op := u.pos, in[u.pos]
		u.pos++
		if op == '.' {
			if len(u.stack) != 1 || len(u.marks) != 0 {
				return nil, errors.New("stops with more or less than one value")
			}
			return u.stack[0], nil
		}
		if run := opcodes[op]; run != nil {
			run(u)
		} else {
			u.fail(errors.New("holds an opcode that is not supported"))
		}
		if _, ok := errors.AsType[*refusal](u.err); ok {
			return nil, u.err
		}
		if u.err != nil {
			return nil, fmt.Errorf("%w (opcode %#02x at byte %d)", u.err, op, at)
		}
		if len(u.stack) > maxStack || len(u.marks) > maxMarks || len(u.memo) > maxMemo {
			return nil, errors.New("has too many values or is nested too deeply")
		}
	}
	return nil, fmt.Errorf("has more than %d opcodes", maxOps)
}

// fail keeps the first error.
func (u *unpickler) fail(err error) {
	if u.err == nil {
		u.err = err
	}
}

// take returns the next n bytes of the input.
func (u *unpickler) take(n uint64) []byte {
	if n > uint64(len(u.in)-u.pos) {
		u.fail(errPickleEnd)
		return nil
	}
	b := u.in[u.pos : u.pos+int(n)]
	u.pos += int(n)
	return b
}

// uint reads an unsigned number of n <= 8 bytes.
func (u *unpickler) uint(n uint64) uint64 {
	var word [8]byte
	copy(word[:], u.take(n))
	return binary.LittleEndian.Uint64(word[:])
}

// sized reads a length of n bytes, and then that number of bytes.
func (u *unpickler) sized(n uint64) []byte { return u.take(u.uint(n)) }

// line reads up to a newline.
func (u *unpickler) line() string {
	line, _, ok := bytes.Cut(u.in[u.pos:], []byte("\n"))
	if !ok {
		u.fail(errPickleEnd)
	}
	u.take(uint64(len(line)) + 1)
	return string(line)
}

// long reads a length of n bytes, and then a number in two's complement of that length.
func (u *unpickler) long(n uint64) int64 {
	b := u.sized(n)
	if len(b) > 8 {
		u.fail(errors.New("holds an integer of more than 64 bits"))
	}
	var word [8]byte
	if len(b) > 0 && b[len(b)-1] >= 0x80 { // extend the sign
		word = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
	}
	copy(word[:], b)
	return int64(binary.LittleEndian.Uint64(word[:]))
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

func (u *unpickler) pop() any { return u.popN(1)[0] }

// top returns the top value without removing it.
func (u *unpickler) top() any {
	v := u.pop()
	u.push(v)
	return v
}

// floor returns the height of the stack at the last mark.
func (u *unpickler) floor() int {
	if len(u.marks) == 0 {
		return 0
	}
	return u.marks[len(u.marks)-1]
}

// popMark removes all values above the last mark, and the mark.
func (u *unpickler) popMark() tuple {
	if len(u.marks) == 0 {
		u.fail(errors.New("has no mark where one is needed"))
		return nil
	}
	items := u.popN(len(u.stack) - u.floor())
	u.marks = u.marks[:len(u.marks)-1]
	return items
}

// popN removes n values, which must be above the last mark.
func (u *unpickler) popN(n int) tuple {
	from := len(u.stack) - n
	if from < u.floor() {
		u.fail(errPickleStack)
		return make(tuple, n)
	}
	items := append(tuple(nil), u.stack[from:]...)
	u.stack = u.stack[:from]
	return items
}

// opcodes are the opcodes that are supported, with the names of Python's pickletools.
var opcodes = [256]func(u *unpickler){
	0x80: func(u *unpickler) { // PROTO
		if version := u.uint(1); version < 2 || version > 5 {
			u.fail(fmt.Errorf("has protocol %d, and 2 to 5 are supported", version))
		}
	},
	0x95: func(u *unpickler) { u.take(8) },                               // FRAME
	'(':  func(u *unpickler) { u.marks = append(u.marks, len(u.stack)) }, // MARK
	'0': func(u *unpickler) { // POP, of the mark if it is on top
		if len(u.marks) > 0 && u.floor() == len(u.stack) {
			u.popMark()
		} else {
			u.pop()
		}
	},
	'1': func(u *unpickler) { u.popMark() },     // POP_MARK
	'2': func(u *unpickler) { u.push(u.top()) }, // DUP

	'N':  func(u *unpickler) { u.push(nil) },                                                  // NONE
	0x88: func(u *unpickler) { u.push(true) },                                                 // NEWTRUE
	0x89: func(u *unpickler) { u.push(false) },                                                // NEWFALSE
	'K':  func(u *unpickler) { u.push(int64(u.uint(1))) },                                     // BININT1
	'M':  func(u *unpickler) { u.push(int64(u.uint(2))) },                                     // BININT2
	'J':  func(u *unpickler) { u.push(int64(int32(u.uint(4)))) },                              // BININT
	0x8a: func(u *unpickler) { u.push(u.long(1)) },                                            // LONG1
	0x8b: func(u *unpickler) { u.push(u.long(4)) },                                            // LONG4
	'G':  func(u *unpickler) { u.push(math.Float64frombits(bits.ReverseBytes64(u.uint(8)))) }, // BINFLOAT, big-endian
	'U':  func(u *unpickler) { u.push(string(u.sized(1))) },                                   // SHORT_BINSTRING
	'T':  func(u *unpickler) { u.push(string(u.sized(4))) },                                   // BINSTRING
	0x8c: func(u *unpickler) { u.push(string(u.sized(1))) },                                   // SHORT_BINUNICODE
	'X':  func(u *unpickler) { u.push(string(u.sized(4))) },                                   // BINUNICODE
	0x8d: func(u *unpickler) { u.push(string(u.sized(8))) },                                   // BINUNICODE8
	'C':  func(u *unpickler) { u.push(bytesValue(u.sized(1))) },                               // SHORT_BINBYTES
	'B':  func(u *unpickler) { u.push(bytesValue(u.sized(4))) },                               // BINBYTES
	0x8e: func(u *unpickler) { u.push(bytesValue(u.sized(8))) },                               // BINBYTES8

	'q':  func(u *unpickler) { u.memo[u.uint(1)] = u.top() },           // BINPUT
	'r':  func(u *unpickler) { u.memo[u.uint(4)] = u.top() },           // LONG_BINPUT
	0x94: func(u *unpickler) { u.memo[uint64(len(u.memo))] = u.top() }, // MEMOIZE
	'h':  func(u *unpickler) { u.recall(u.uint(1)) },                   // BINGET
	'j':  func(u *unpickler) { u.recall(u.uint(4)) },                   // LONG_BINGET

	')':  func(u *unpickler) { u.push(tuple(nil)) },         // EMPTY_TUPLE
	0x85: func(u *unpickler) { u.push(u.popN(1)) },          // TUPLE1
	0x86: func(u *unpickler) { u.push(u.popN(2)) },          // TUPLE2
	0x87: func(u *unpickler) { u.push(u.popN(3)) },          // TUPLE3
	't':  func(u *unpickler) { u.push(u.popMark()) },        // TUPLE
	']':  func(u *unpickler) { u.push(&list{}) },            // EMPTY_LIST
	'l':  func(u *unpickler) { u.push(&list{u.popMark()}) }, // LIST
	'a':  func(u *unpickler) { u.appendItems(u.popN(1)) },   // APPEND
	'e':  func(u *unpickler) { u.appendItems(u.popMark()) }, // APPENDS
	'}':  func(u *unpickler) { u.push(&dict{}) },            // EMPTY_DICT
	'd': func(u *unpickler) { // DICT
		items := u.popMark()
		u.push(&dict{})
		u.setItems(items)
	},
	's': func(u *unpickler) { u.setItems(u.popN(2)) },   // SETITEM
	'u': func(u *unpickler) { u.setItems(u.popMark()) }, // SETITEMS

	'c': func(u *unpickler) { u.push(u.findGlobal(u.line(), u.line())) }, // GLOBAL
	0x93: func(u *unpickler) { // STACK_GLOBAL
		wrong, name := errors.New("has a name of a global that is not a string"), u.popN(2)
		u.push(u.findGlobal(as[string](u, name[0], wrong), as[string](u, name[1], wrong)))
	},
	'R':  (*unpickler).call, // REDUCE
	0x81: (*unpickler).call, // NEWOBJ
	'b': func(u *unpickler) { // BUILD: attributes, such as a state dict's _metadata, are not weights
		u.pop()
		as[*dict](u, u.top(), errors.New("sets attributes of something that is not a dict"))
	},
	'Q': func(u *unpickler) { u.push(u.newStorage(u.pop())) }, // BINPERSID
}

func (u *unpickler) call() {
	wrong := errors.New("calls something that is not a function, or without a tuple of arguments")
	call := u.popN(2)
	u.push(u.reduce(as[global](u, call[0], wrong), as[tuple](u, call[1], wrong)))
}

// as returns v if it has the type T. Otherwise it fails with the error wrong.
func as[T any](u *unpickler, v any, wrong error) T {
	t, ok := v.(T)
	if !ok {
		u.fail(wrong)
	}
	return t
}

// recall pushes a value of the memo.
func (u *unpickler) recall(key uint64) {
	v, ok := u.memo[key]
	if !ok {
		u.fail(fmt.Errorf("recalls value %d, which was never stored", key))
	}
	u.push(v)
}

// appendItems adds items to the list at the top of the stack.
func (u *unpickler) appendItems(items tuple) {
	if l := as[*list](u, u.top(), errNoContainer); l != nil {
		l.items = append(l.items, items...)
	}
}

// setItems sets pairs of keys and values in the dict at the top of the stack.
func (u *unpickler) setItems(pairs tuple) {
	if d := as[*dict](u, u.top(), errNoContainer); d != nil {
		u.fail(d.set(pairs))
	}
}

// set sets pairs of keys and values. A key that is set again keeps its position.
func (d *dict) set(pairs tuple) error {
	if len(pairs)%2 != 0 {
		return errors.New("has a dict key without a value")
	}
	if d.values == nil && len(pairs) > 0 {
		d.values = map[any]any{}
	}
	for i := 0; i < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		switch k := key.(type) {
		case string:
			if len(k) > maxKey {
				return fmt.Errorf("has a dict key of %d bytes, and at most %d are allowed", len(k), maxKey)
			}
		case int64, bool:
		case float64:
			if math.IsNaN(k) { // it would never be found
				return errors.New("has NaN as a dict key")
			}
		default:
			return errors.New("has a dict key that is neither string nor number")
		}
		if _, ok := d.values[key]; !ok {
			d.keys = append(d.keys, key)
		}
		d.values[key] = value
	}
	return nil
}

// The globals that a pickle may use, in addition to the storage classes.
const (
	rebuildTensor    global = "torch._utils._rebuild_tensor_v2"
	rebuildParameter global = "torch._utils._rebuild_parameter"
	torchSize        global = "torch.Size"
	orderedDict      global = "collections.OrderedDict"
)

// storageTypes maps PyTorch's storage classes to the names of their element types. Only
// those in supportedTypes can be read; the others may occur outside the state dict.
var storageTypes = map[global]string{
	"torch.FloatStorage":         "float32",
	"torch.HalfStorage":          "float16",
	"torch.BFloat16Storage":      "bfloat16",
	"torch.LongStorage":          "int64",
	"torch.ByteStorage":          "uint8",
	"torch.DoubleStorage":        "float64",
	"torch.IntStorage":           "int32",
	"torch.ShortStorage":         "int16",
	"torch.CharStorage":          "int8",
	"torch.BoolStorage":          "bool",
	"torch.ComplexFloatStorage":  "complex64",
	"torch.ComplexDoubleStorage": "complex128",
}

var supportedTypes = map[string]tensor.DType{
	"float32": tensor.F32, "float16": tensor.F16, "bfloat16": tensor.BF16, "int64": tensor.I64, "int32": tensor.I32, "uint8": tensor.U8,
}

// findGlobal returns an allowed global.
func (u *unpickler) findGlobal(module, name string) global {
	g := global(module + "." + name)
	switch g {
	case rebuildTensor, rebuildParameter, torchSize, orderedDict:
	default:
		if storageTypes[g] == "" {
			u.fail(refuse("if you trust its source, load it with PyTorch and save the state dict alone; otherwise delete the file",
				"refuses to call %s, which the file asks for: a checkpoint only needs tensors, dicts and numbers", printable(string(g))))
		}
	}
	return g
}

// printable quotes a name, unless it is plain.
func printable(name string) string {
	if q := quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// reduce returns the value of calling fn with args.
func (u *unpickler) reduce(fn global, args tuple) any {
	wrong := fmt.Errorf("calls %s with the wrong arguments", fn)
	switch {
	case fn == rebuildTensor && (len(args) == 6 || len(args) == 7):
		if u.views++; u.views > maxTensors {
			u.fail(fmt.Errorf("has more than %d tensors", maxTensors))
		}
		return &view{as[*storage](u, args[0], wrong), as[int64](u, args[1], wrong), as[tuple](u, args[2], wrong), as[tuple](u, args[3], wrong)}
	case fn == rebuildParameter && len(args) == 3:
		return as[*view](u, args[0], wrong)
	case fn == torchSize && len(args) == 1:
		if l, ok := args[0].(*list); ok {
			return tuple(l.items)
		}
		return as[tuple](u, args[0], wrong)
	case fn == orderedDict && len(args) == 0:
		return &dict{}
	}
	u.fail(wrong)
	return nil
}

// newStorage reads a persistent id: ('storage', class, key, location, numel).
func (u *unpickler) newStorage(id any) *storage {
	wrong := errors.New("has a persistent id that is not a storage of a known type")
	t := as[tuple](u, id, wrong)
	if len(t) != 5 || t[0] != "storage" {
		u.fail(wrong)
		return nil
	}
	s := &storage{as[global](u, t[1], wrong), as[string](u, t[2], wrong), as[int64](u, t[4], wrong)}
	if storageTypes[s.class] == "" || s.numel < 0 || s.numel > maxVolume {
		u.fail(wrong)
	}
	return s
}
