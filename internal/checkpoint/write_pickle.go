package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/tensor"
)

// pickler writes a pickle of protocol 2 without a memo: it repeats equal values.
type pickler struct{ b []byte }

// torchPickle returns data.pkl of a PyTorch file; storage i belongs to spec i.
func torchPickle(top []Entry, stateKey string, specs []Spec) ([]byte, error) {
	p := &pickler{b: []byte("\x80\x02")}
	seen := map[string]bool{}
	if stateKey != "" {
		seen[stateKey] = true
		p.raw("}(")
	} else {
		for _, s := range specs {
			seen[s.Name] = true
		}
		p.orderedDict()
	}
	for _, e := range top {
		if seen[e.Key] {
			return nil, fmt.Errorf("checkpoint: key %s occurs twice", quote(e.Key))
		}
		seen[e.Key] = true
		if err := p.entry(e); err != nil {
			return nil, err
		}
	}
	if stateKey != "" {
		p.text(stateKey)
		p.orderedDict()
	}
	for i := range specs {
		p.text(specs[i].Name)
		p.tensor(i, &specs[i])
	}
	if stateKey != "" {
		p.raw("u")
	}
	p.raw("u.")
	if len(p.b) > maxPickle {
		return nil, fmt.Errorf("checkpoint: the directory has %d bytes, and at most %d are possible", len(p.b), maxPickle)
	}
	return p.b, nil
}

func (p *pickler) raw(opcodes string) { p.b = append(p.b, opcodes...) }

func (p *pickler) global(module, name string) { p.raw("c" + module + "\n" + name + "\n") }

// orderedDict begins an OrderedDict; its items and SETITEMS follow.
func (p *pickler) orderedDict() {
	p.global("collections", "OrderedDict")
	p.raw(")R(")
}

func (p *pickler) text(s string) {
	p.b = binary.LittleEndian.AppendUint32(append(p.b, 'X'), uint32(len(s)))
	p.raw(s)
}

func (p *pickler) integer(n int64) {
	if n == int64(int32(n)) {
		p.b = binary.LittleEndian.AppendUint32(append(p.b, 'J'), uint32(n))
		return
	}
	p.b = binary.LittleEndian.AppendUint64(append(p.b, 0x8a, 8), uint64(n)) // LONG1 of 8 bytes
}

// entry writes a key and its value.
func (p *pickler) entry(e Entry) error {
	if len(e.Key) > maxKey || !utf8.ValidString(e.Key) {
		return fmt.Errorf("checkpoint: %s cannot be a key: it must have at most %d bytes of UTF-8", quote(e.Key), maxKey)
	}
	p.text(e.Key)
	switch v := e.Value.(type) {
	case nil:
		p.raw("N")
	case bool:
		p.raw(map[bool]string{true: "\x88", false: "\x89"}[v])
	case int:
		p.integer(int64(v))
	case int64:
		p.integer(v)
	case float64:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 'G'), math.Float64bits(v))
	case string:
		p.text(v)
	case []Entry:
		p.raw("}(")
		for _, inner := range v {
			if err := p.entry(inner); err != nil {
				return err
			}
		}
		p.raw("u")
	default:
		return fmt.Errorf("checkpoint: a %T cannot be written under the key %s", v, quote(e.Key))
	}
	return nil
}

// tensor writes the call that builds a tensor, as torch.Tensor.__reduce_ex__ does:
// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward hooks).
func (p *pickler) tensor(i int, s *Spec) {
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.raw("((")
	p.text("storage")
	p.global("torch", storageClasses[s.DType])
	p.text(strconv.Itoa(i))
	p.text("cpu")
	p.integer(int64(tensor.Volume(s.Shape)))
	p.raw("tQ")
	p.integer(0)
	p.raw("(")
	for _, d := range s.Shape {
		p.integer(int64(d))
	}
	p.raw("t(")
	for i := range s.Shape {
		stride := int64(1)
		for _, d := range s.Shape[i+1:] {
			stride *= int64(max(d, 1))
		}
		p.integer(stride)
	}
	p.raw("t\x89")
	p.global("collections", "OrderedDict")
	p.raw(")RtR")
}
