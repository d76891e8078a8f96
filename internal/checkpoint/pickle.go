package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
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
		class string // "torch.FloatStorage"
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
	stack []any
	marks []int // positions of marks on the stack
	memo  map[uint64]any
	views int
}

var (
	errPickleEnd   = errors.New("ends in the middle")
	errPickleStack = errors.New("takes more values from the stack than it has")
)

// unpickle reads one pickle and returns its value.
func unpickle(in []byte) (any, error) {
	u := &unpickler{in: in, memo: map[uint64]any{}}
	for range maxOps {
		op, err := u.byte()
		if err != nil {
			return nil, err
		}
		if op == '.' {
			if len(u.stack) != 1 || len(u.marks) != 0 {
				return nil, errors.New("stops with more or less than one value")
			}
			return u.stack[0], nil
		}
		at := u.pos - 1
		if err := u.step(op); err != nil {
			if _, ok := errors.AsType[*refusal](err); ok {
				return nil, err
			}
			return nil, fmt.Errorf("%w (opcode %#02x at byte %d)", err, op, at)
		}
		if len(u.stack) > maxStack || len(u.marks) > maxMarks || len(u.memo) > maxMemo {
			return nil, errors.New("has too many values or is nested too deeply")
		}
	}
	return nil, fmt.Errorf("has more than %d opcodes", maxOps)
}

func (u *unpickler) byte() (byte, error) {
	b, err := u.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// take returns the next n bytes of the input.
func (u *unpickler) take(n uint64) ([]byte, error) {
	if n > uint64(len(u.in)-u.pos) {
		return nil, errPickleEnd
	}
	b := u.in[u.pos : u.pos+int(n)]
	u.pos += int(n)
	return b, nil
}

// uint reads an unsigned number of n <= 8 bytes.
func (u *unpickler) uint(n int) (uint64, error) {
	b, err := u.take(uint64(n))
	var word [8]byte
	copy(word[:], b)
	return binary.LittleEndian.Uint64(word[:]), err
}

// sized reads a length of n bytes, and then that number of bytes.
func (u *unpickler) sized(n int) ([]byte, error) {
	length, err := u.uint(n)
	if err != nil {
		return nil, err
	}
	return u.take(length)
}

// line reads up to a newline.
func (u *unpickler) line() (string, error) {
	for i := u.pos; i < len(u.in); i++ {
		if u.in[i] == '\n' {
			s := string(u.in[u.pos:i])
			u.pos = i + 1
			return s, nil
		}
	}
	return "", errPickleEnd
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

// pop removes the top value, which must be above the last mark.
func (u *unpickler) pop() (any, error) {
	if len(u.stack) == u.floor() {
		return nil, errPickleStack
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	return v, nil
}

// top returns the top value without removing it.
func (u *unpickler) top() (any, error) {
	if len(u.stack) == u.floor() {
		return nil, errPickleStack
	}
	return u.stack[len(u.stack)-1], nil
}

// floor returns the height of the stack at the last mark.
func (u *unpickler) floor() int {
	if len(u.marks) == 0 {
		return 0
	}
	return u.marks[len(u.marks)-1]
}

// popMark removes all values above the last mark, and the mark.
func (u *unpickler) popMark() (tuple, error) {
	if len(u.marks) == 0 {
		return nil, errors.New("has no mark where one is needed")
	}
	from := u.floor()
	u.marks = u.marks[:len(u.marks)-1]
	items := append(tuple(nil), u.stack[from:]...)
	u.stack = u.stack[:from]
	return items, nil
}

// popN removes n values.
func (u *unpickler) popN(n int) (tuple, error) {
	if len(u.stack)-n < u.floor() {
		return nil, errPickleStack
	}
	from := len(u.stack) - n
	items := append(tuple(nil), u.stack[from:]...)
	u.stack = u.stack[:from]
	return items, nil
}

// step executes one opcode. The letters are those of Python's pickletools.
func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		version, err := u.byte()
		if err == nil && (version < 2 || version > 5) {
			err = fmt.Errorf("has protocol %d, and 2 to 5 are supported", version)
		}
		return err
	case 0x95: // FRAME
		_, err := u.uint(8)
		return err
	case '(':
		u.marks = append(u.marks, len(u.stack))
		return nil
	case '0': // POP
		if n := len(u.marks); n > 0 && u.marks[n-1] == len(u.stack) {
			u.marks = u.marks[:n-1]
			return nil
		}
		_, err := u.pop()
		return err
	case '1': // POP_MARK
		_, err := u.popMark()
		return err
	case '2': // DUP
		v, err := u.top()
		return u.pushed(v, err)
	case 'N':
		return u.pushed(nil, nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		return u.pushed(op == 0x88, nil)
	case 'K', 'M', 'J', 0x8a, 0x8b, 'G':
		return u.pushed(u.number(op))
	case 'X', 0x8c, 0x8d, 'U', 'T', 'C', 'B', 0x8e:
		return u.pushed(u.text(op))
	case 'q', 'r', 0x94, 'h', 'j':
		return u.memorise(op)
	case ')', 0x85, 0x86, 0x87, 't', ']', 'l', '}', 'd', 'a', 'e', 's', 'u':
		return u.container(op)
	case 'c', 0x93, 'R', 0x81, 'b', 'Q':
		return u.object(op)
	}
	return errors.New("holds an opcode that is not supported")
}

// pushed pushes v unless there is an error.
func (u *unpickler) pushed(v any, err error) error {
	if err == nil {
		u.push(v)
	}
	return err
}

// number reads BININT1, BININT2, BININT, LONG1, LONG4 or BINFLOAT.
func (u *unpickler) number(op byte) (any, error) {
	switch op {
	case 'K':
		n, err := u.uint(1)
		return int64(n), err
	case 'M':
		n, err := u.uint(2)
		return int64(n), err
	case 'J':
		n, err := u.uint(4)
		return int64(int32(uint32(n))), err
	case 'G':
		b, err := u.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	}
	width := 1
	if op == 0x8b {
		width = 4
	}
	b, err := u.sized(width)
	if err != nil {
		return nil, err
	}
	if len(b) > 8 {
		return nil, errors.New("holds an integer of more than 64 bits")
	}
	var word [8]byte
	if len(b) > 0 && b[len(b)-1] >= 0x80 { // two's complement: extend the sign
		word = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
	}
	copy(word[:], b)
	return int64(binary.LittleEndian.Uint64(word[:])), nil
}

// text reads a string or bytes. Python 2's strings count as strings.
func (u *unpickler) text(op byte) (any, error) {
	width := 4
	switch op {
	case 0x8c, 'U', 'C':
		width = 1
	case 0x8d, 0x8e:
		width = 8
	}
	b, err := u.sized(width)
	if err != nil {
		return nil, err
	}
	if op == 'B' || op == 'C' || op == 0x8e {
		return bytesValue(b), nil
	}
	return string(b), nil
}

// memorise reads BINPUT, LONG_BINPUT, MEMOIZE, BINGET or LONG_BINGET.
func (u *unpickler) memorise(op byte) error {
	key, err := uint64(len(u.memo)), error(nil)
	switch op {
	case 'q', 'h':
		key, err = u.uint(1)
	case 'r', 'j':
		key, err = u.uint(4)
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' {
		v, ok := u.memo[key]
		if !ok {
			return fmt.Errorf("recalls value %d, which was never stored", key)
		}
		u.push(v)
		return nil
	}
	v, err := u.top()
	if err == nil {
		u.memo[key] = v
	}
	return err
}

// container builds or extends a tuple, list or dict.
func (u *unpickler) container(op byte) error {
	var items tuple
	var err error
	switch op {
	case 0x85, 0x86, 0x87: // TUPLE1 to TUPLE3
		items, err = u.popN(int(op-0x85) + 1)
	case 'a': // APPEND
		items, err = u.popN(1)
	case 's': // SETITEM
		items, err = u.popN(2)
	case 't', 'l', 'd', 'e', 'u':
		items, err = u.popMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case ')', 0x85, 0x86, 0x87, 't':
		u.push(items)
		return nil
	case ']', 'l':
		u.push(&list{items})
		return nil
	case '}', 'd':
		d := &dict{}
		u.push(d)
		return d.set(items)
	}
	target, err := u.top()
	if err != nil {
		return err
	}
	switch target := target.(type) {
	case *list:
		if op == 'a' || op == 'e' {
			target.items = append(target.items, items...)
			return nil
		}
	case *dict:
		if op == 's' || op == 'u' {
			return target.set(items)
		}
	}
	return errors.New("adds items to something that is neither list nor dict")
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
